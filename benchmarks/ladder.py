"""What each step of prediction brings: from the largest cell of one heat map to an ensemble.

    python -m benchmarks.ladder --data_dir=RECORDS/val --model_dir=RUN[,RUN2] [--output=ladder.md]

NE with its confidence interval, whether the step before is beaten, and pictures per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags, logging

from benchmarks.common import ledger, real_pictures
from utility.command_line import scripts
from utility.command_line.progress import Stopwatch

_HEADER = (
    'prediction', 'NE %', '95 % interval', 'against', 'difference', 'p', 'pictures/s',
)  # fmt: skip
_PLAIN = 'Gaussian fit'
_ABOUT = """# From the largest cell to an ensemble

Made by `python -m benchmarks.ladder --data_dir={data_dir} --model_dir={runs}`.
{images} pictures, {points} points. {machine}.

- The **interval** is that of a bootstrap over pictures; **difference** and **p** compare with the
  line named under *against* on the same pictures (sign flips): negative is better.
- **Pictures/s**: reading and decoding included, building of graphs not.

"""


class Rung(NamedTuple):
    """One way to predict.

    Attributes:
        name: What it adds.
        against: The name of the rung that it is compared with.
        options: Fields of PredictOptions; 'views' are those of ViewOptions.
        num_runs: How many of the runs take part.
    """

    name: str
    against: str
    options: dict[str, Any]
    num_runs: int = 1


def rungs(num_runs: int) -> list[Rung]:
    """Return the ladder for one run, and its last rung with all of them."""
    flip, twice = {'flip_test': True}, {'flip_test': True, 'passes': 2}
    scales, turns = {'scales': (0.85, 1.0, 1.15)}, {'rotations': (-10.0, 0.0, 10.0)}
    ladder = [
        Rung('argmax', '', {'refine': 'argmax'}),
        Rung('quarter step', 'argmax', {'refine': 'quarter'}),
        Rung('DARK', 'quarter step', {'refine': 'dark'}),
        Rung(_PLAIN, 'DARK', {'refine': 'gaussian'}),
        Rung('centroid', _PLAIN, {'refine': 'centroid'}),
        Rung(f'{_PLAIN}, smoothed by 1 cell', _PLAIN, {'refine': 'gaussian', 'smoothing': 1.0}),
        Rung('mean of all outputs', _PLAIN, {'outputs': (1.0,)}),
        Rung('+ flip', _PLAIN, flip),
        Rung('+ flip, points averaged', '+ flip', {**flip, 'fuse': 'keypoints'}),
        Rung('+ flip, 3 scales', '+ flip', {**flip, 'views': scales}),
        Rung('+ flip, 3 rotations', '+ flip', {**flip, 'views': turns}),
        Rung('+ flip, 4 moved crops', '+ flip', {**flip, 'views': {'num_crops': 4}}),
        Rung('+ flip, 2 passes', '+ flip', twice),
        Rung('+ flip, 3 scales, 2 passes', '+ flip, 3 scales', {**twice, 'views': scales}),
    ]
    if num_runs > 1:
        best = ladder[-1]
        several = [
            Rung(f'the same with {num_runs} runs, {fuse} averaged', best.name, options, num_runs)
            for fuse in ('heatmaps', 'keypoints')
            for options in [{**best.options, 'fuse': fuse}]
        ]
        ladder += several
    return ladder


def predict_options(rung: Rung, batch_size: int):
    """Return the utility.predict.views_to_points.PredictOptions of a rung."""
    from utility.predict.test_time_augmentation import ViewOptions
    from utility.predict.views_to_points import PredictOptions

    options = dict(rung.options)
    views = ViewOptions(**options.pop('views', {}))
    return PredictOptions(**{'refine': 'gaussian', **options}, views=views, batch_size=batch_size)


def climb(data_dir: str, run_dirs: Sequence[str], batch_size: int) -> list[dict[str, Any]]:
    """Return a row for each rung: its name, scored distances [N, K], and pictures per second."""
    rows = []
    for rung in rungs(len(run_dirs)):
        options = predict_options(rung, batch_size)
        watch = Stopwatch(batch_size, options.passes)
        chosen = run_dirs[: rung.num_runs]
        distances = real_pictures.distances(chosen, data_dir, options, watch)
        rows.append({'rung': rung, 'distances': distances, 'rate': watch.rate()})
        logging.info('%s: done', rung.name)
    return rows


def cells(row: dict[str, Any], rows_by_rung: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Return a line of the table."""
    rung, measured = row['rung'], row['distances']
    difference = ['', '']
    if rung.against:
        base = rows_by_rung[rung.against]['distances']
        difference = real_pictures.difference_cells(measured, base, 3)
    error = real_pictures.error_cells(measured, 3)
    return (rung.name, *error, rung.against, *difference, f'{row["rate"]:.1f}')


def page(rows: list[dict[str, Any]], data_dir: str, run_dirs: Sequence[str]) -> str:
    """Return the Markdown page of the ladder."""
    by_name = {row['rung'].name: row for row in rows}
    about = _ABOUT.format(
        data_dir=data_dir,
        runs=','.join(run_dirs),
        **real_pictures.counts_of_distances(rows[0]['distances']),
    )
    return about + ledger.markdown_table(_HEADER, [cells(row, by_name) for row in rows])


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'model_dir')
    rows = climb(values.data_dir, values.model_dir, values.batch_size)
    ledger.publish(page(rows, values.data_dir, values.model_dir), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'A labelled split of the records, RECORDS/val.')
    flags.DEFINE_list('model_dir', None, 'The run, or several with commas.')
    flags.DEFINE_integer('batch_size', 16, 'Pictures at a time.', lower_bound=1)
    ledger.define_output('Markdown file for the table, too.')
    scripts.run(main, __doc__)
