"""Lists the variables of a checkpoint, or of the newest one of a run.

python -m utility.checkpoints PATH
"""

from __future__ import annotations

import math

from utility.checkpoints.variables import is_state, list_variables
from utility.command_line import scripts


def main(positional: list[str]) -> None:
    if len(positional) != 1:
        raise ValueError('give one checkpoint or run directory: python -m utility.checkpoints PATH')
    rows = list_variables(positional[0])
    total = 0
    for name, shape, dtype in rows:
        print(f'{name:70s} {dtype:10s} {"x".join(map(str, shape)) or "scalar"}')
        if not is_state(name):
            total += math.prod(shape)
    print(f'{len(rows)} tensors; {total:,} numbers of the network, without optimiser state')


if __name__ == '__main__':
    scripts.run(main, __doc__)
