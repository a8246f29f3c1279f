"""Measures how fast everything is, on one page: input, step, prediction and what is around them.

python -m benchmarks [--only=submissions,startup] [--repeats=5] [--output=PAGE.md]

Beside --output its numbers are written as JSON. With --only, parts that are there already are kept,
each with its date and revision. A part that fails is told on the page, and the command exits
with 1.
"""

from __future__ import annotations

from absl import flags

import config
from benchmarks.common import ledger, report
from utility.command_line import scripts

# Modules of benchmarks.speed, each a part as report describes it; in the order of the page.
PARTS = (
    'input_pipeline', 'step', 'peers', 'prediction', 'submissions', 'conversion', 'startup',
    'scale',
)  # fmt: skip


def _select(names: list[str]) -> list[str]:
    """Return the parts of these names, in the order of the page; none given: all."""
    for name in names:
        if name not in PARTS:
            raise config.unknown('part', f'--only={name}', name, PARTS)
    return [name for name in PARTS if not names or name in names]


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    results = {
        name: report.measure(f'benchmarks.speed.{name}', values.repeats)
        for name in _select(values.only)
    }
    command = ledger.command('python -m benchmarks', ('only', 'repeats'), values)
    before = report.measured_before(values.output) if values.only else {}
    together = {**before, **results}
    report.publish(command, {n: together[n] for n in PARTS if n in together}, values.output)
    failed = [result.title for result in results.values() if result.failure]
    if failed:
        raise scripts.RunError(f'not measured: {", ".join(failed)}')


if __name__ == '__main__':
    flags.DEFINE_list('only', [], f'Parts to measure, of {", ".join(PARTS)}; none: all.')
    flags.DEFINE_integer('repeats', 5, 'How often what is compared is run.', lower_bound=1)
    ledger.define_output('Markdown file for the page; its JSON is written beside.')
    flags.register_validator(
        'output',
        lambda path: not path or not path.endswith('.json'),
        'the numbers get this name; give the page another, such as speed.md',
    )
    scripts.run(main, __doc__)
