"""What lower precision and XLA bring on this machine: times of training steps, compared.

    python -m benchmarks.precision [--scripts=train_a.py,train_b.py] [--output=precision.md]

The ways to compute a network take turns, step by step, each in a process of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import flags, logging

from benchmarks import networks
from benchmarks.common import interleaved, isolated, ledger, recipes
from config import UserError
from nets.precision import Compute
from utility.command_line import environment, scripts
from utility.statistics.medians import summarize

_HEADER = ('network', 'way', 'training step, s', 'ratio', 'inference, ms/picture', 'ratio')
_FLOAT32 = 'float32'
_COMMAND_FLAGS = ('scripts', 'ways', 'image_size', 'batch_size')  # flags
_ABOUT = """Made by `{command}`: {size} px, batches of {batch_size}.
{machine}.

- Medians of up to {repeats} steps, after one that is not counted, ± half the distance between the
  quartiles. Ratios are to the median of float32: below 1 is faster.
- **rewritten**: float32 networks whose graph TensorFlow rewrites
  (auto_mixed_precision_onednn_bfloat16); `--precision=bfloat16` needs none.
- **xla**: what `--xla` is refused for on a CPU: TF_XLA_FLAGS=--tf_xla_cpu_global_jit.

"""


class Way(NamedTuple):
    """A way to compute a network.

    Attributes:
        precision: As in Compute.
        is_rewritten: Whether TensorFlow rewrites the graph.
        xla: Whether XLA is forced on it.
    """

    precision: str = _FLOAT32
    is_rewritten: bool = False
    xla: bool = False


WAYS = {
    _FLOAT32: Way(),
    'bfloat16': Way('bfloat16'),
    'rewritten': Way(is_rewritten=True),
    'xla': Way(xla=True),
    'float16': Way('float16'),
}
_DEFAULT = [title for title in WAYS if title != 'float16']  # that takes minutes a step on a CPU


def measurements(name: str, way: Way, size: int, batch_size: int) -> Iterator[Any]:
    """Yield, in a process of its own, first the machine, then again and again mode -> Run."""
    if way.xla:
        environment.force_xla_on_cpu()
    import tensorflow as tf

    settings = tf.compat.v1.ConfigProto()
    if way.is_rewritten:
        rewriting = settings.graph_options.rewrite_options
        rewriting.auto_mixed_precision_onednn_bfloat16 = rewriting.ON
    experiment = recipes.resized(recipes.load(name), size)
    actions = {}
    for mode in ('train', 'infer'):
        arguments = (experiment, mode, batch_size, Compute(way.precision), settings)
        actions[mode] = networks.step(*arguments)[0]
        actions[mode]()
    yield isolated.describe_machine()
    reference = interleaved.matrix_product()
    while True:
        yield interleaved.beside_reference(actions, reference)


def measure(name: str, values) -> tuple[dict[str, dict[str, Any]], str]:
    """Return way -> mode -> Summary of seconds, or why there is none; and the machine."""
    members, rows, machine = {}, {}, ''
    with contextlib.ExitStack() as stack:
        for title in values.ways:
            arguments = (name, WAYS[title], values.image_size, values.batch_size)
            member = stack.enter_context(isolated.Remote(measurements, *arguments))
            try:
                machine = next(member)
                members[title] = member
            except isolated.FailedError as error:
                rows[title] = {ledger.FAILURE: str(error)}
            logging.info('%s, %s: ready', name, title)
        rows_by_name, failures = interleaved.interleave(members, values.repeats, values.max_seconds)
    rows.update({title: {ledger.FAILURE: words} for title, words in failures.items()})
    for title, rounds in rows_by_name.items():
        rows[title] = {
            mode: summarize([runs[mode].seconds for runs in rounds]) for mode in ('train', 'infer')
        }
    return {title: rows[title] for title in WAYS if title in rows}, machine


def cells(name: str, title: str, row: dict[str, Any], base: dict[str, Any], batch_size: int):
    """Return a line of the table."""
    if ledger.FAILURE in row:
        return (name, title, row[ledger.FAILURE], '', '', '')
    train, infer = row['train'], row['infer']
    ratios = [f'{row[mode].median / base[mode].median:.2f}' for mode in ('train', 'infer')]
    spread = f' ± {train.spread:.3f}' if train.count > 1 else ''
    milliseconds = f'{1000 * infer.median / batch_size:.1f}'
    return (name, title, f'{train.median:.3f}{spread}', ratios[0], milliseconds, ratios[1])


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    ledger.check_names('ways', WAYS)
    if _FLOAT32 not in values.ways:
        raise UserError(f'--ways: {_FLOAT32} must be among them, to compare with')
    lines, machine = [], ''
    chosen = recipes.select(values.scripts)
    for name in chosen:
        rows, machine = measure(name, values)
        if ledger.FAILURE in rows[_FLOAT32]:
            raise scripts.RunError(f'{name}, {_FLOAT32}: {rows[_FLOAT32][ledger.FAILURE]}')
        lines += [
            cells(name, title, row, rows[_FLOAT32], values.batch_size)
            for title, row in rows.items()
        ]
    about = _ABOUT.format(
        command=ledger.command('python -m benchmarks.precision', _COMMAND_FLAGS, values),
        size=values.image_size,
        batch_size=values.batch_size,
        repeats=values.repeats,
        machine=machine,
    )
    ledger.publish(about + ledger.markdown_table(_HEADER, lines), values.output)


if __name__ == '__main__':
    flags.DEFINE_list('scripts', ['resnet50_cpn', 'resnet18_dhn'], 'Train scripts to measure.')
    flags.DEFINE_list('ways', _DEFAULT, f'Of computing them: {", ".join(WAYS)}.')
    flags.DEFINE_integer('image_size', 256, 'Side of the pictures, px.', lower_bound=1)
    flags.DEFINE_integer('batch_size', 4, 'Pictures a step.', lower_bound=1)
    flags.DEFINE_integer('repeats', 11, 'The most steps that are timed.', lower_bound=1)
    flags.DEFINE_float('max_seconds', 60.0, 'After which a way is timed no more.', 0.0)
    ledger.define_output('Markdown file for the table, too.')
    scripts.run(main, __doc__)
