"""Lists the variables of a checkpoint, or averages checkpoints of a run's networks.

    python -m utility.checkpoints PATH                      of a checkpoint or a run's newest one
    python -m utility.checkpoints RUN --average_last=5 --data_dir=RECORDS
    python -m utility.checkpoints RUN --average_best=5 --data_dir=RECORDS

The second writes RUN/<category>/average_last_5, a checkpoint like any other: the eval scripts take
it with --checkpoint=average_last_5, the train scripts with
--init_checkpoint=RUN/<category>/average_last_5. With RECORDS its batch-norm statistics are
estimated on training images; without, only averaged.
"""

from __future__ import annotations

import math
import os

from absl import flags

from config import UserError
from nets.names import of_network
from utility.checkpoints.variables import list_variables
from utility.command_line import scripts
from utility.command_line.text_table import text_table


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if len(positional) != 1:
        raise UserError('give one checkpoint or run directory: python -m utility.checkpoints PATH')
    if values.average_last and values.average_best:
        raise UserError('give one of --average_last and --average_best')
    if values.average_last:
        _average(positional[0], 'last', values.average_last, values.data_dir)
    elif values.average_best:
        _average(positional[0], 'best', values.average_best, values.data_dir)
    elif values.data_dir:
        raise UserError('--data_dir is for --average_last and --average_best')
    else:
        _list(positional[0])


def _list(path: str) -> None:
    variables = list_variables(path)
    network = of_network([name for name, _, _ in variables])
    total = sum(math.prod(shape) for name, shape, _ in variables if name in network)
    rows = (
        (name, dtype, 'x'.join(map(str, shape)) or 'scalar') for name, shape, dtype in variables
    )
    print(text_table(rows, left=3))
    print(f'{len(variables)} tensors; {total:,} numbers of the network, without optimizer state')


def _average(run_dir: str, kind: str, count: int, data_dir: str | None) -> None:
    """Save the mean of the `count` last or best checkpoints of each network of a run."""
    from utility.checkpoints import average, runs  # here, because they import TensorFlow

    find = {'last': average.last_checkpoints, 'best': average.best_checkpoints}[kind]
    # What is missing in the last network is an error before the first one takes its time.
    chosen = [(folder, find(folder, count)) for folder in runs.networks(run_dir).values()]
    for folder, prefixes in chosen:
        output = os.path.join(folder, f'average_{kind}_{count}')
        print(average.save_mean(folder, prefixes, data_dir, output))


if __name__ == '__main__':
    flags.DEFINE_integer('average_last', 0, 'Average so many of the last checkpoints.', 0)
    flags.DEFINE_integer('average_best', 0, 'Average so many of lowest validation NE.', 0)
    flags.DEFINE_string('data_dir', None, 'Records, whose training images give the statistics.')
    scripts.run(main, __doc__)
