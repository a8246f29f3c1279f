"""How often radii hold the true points, and how small they are, on pictures that did not calibrate.

    python -m benchmarks.uncertainty --data_dir=RECORDS/val --model_dir=RUN [--unlike=OTHER/val]
                                     [--output=docs/uncertainty.md]

A labelled split that the run was not trained on is divided at random, five times: one half of its
pictures calibrates, the other is asked about. Compared is a radius for all points, the conformal
quantile of the errors themselves of the same calibrating pictures. --unlike is a split of other
pictures, which the test of a shift should tell apart.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import ledger
from benchmarks.common.isolated import describe_machine
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.metrics.annotations import annotations_of
from utility.predict import flags as prediction_flags
from utility.predict import uncertainty
from utility.predict.uncertainty import fitting
from utility.statistics import conformal
from utility.statistics.bootstrap import ratio_interval

LEVELS = (0.8, 0.9, 0.95)
_PARTS = 5  # of the points, by their radius
_ABOUT = """# How far off a point may be

A network gives a point for each keypoint of a garment, also where a hand hides it. The radius about
a point is learned from pictures with known points: it is to hold the annotated point in 90 of 100
cases, or in as many as are asked for.

```
python eval_metrics.py --data_dir=RECORDS/val --model_dir=RUN --flip_test \\
  --save_uncertainty=RUN/uncertainty.json
python eval_submission.py --data_dir=RECORDS/test_0 --model_dir=RUN --flip_test \\
  --output_csv=A.csv --uncertainty=RUN
python demos/draw_keypoints.py --model_dir=RUN --category=blouse shirt.jpg --output_dir=OUT \\
  --uncertainty=RUN
python demos/measure.py --model_dir=RUN --category=blouse shirt.jpg --uncertainty=RUN
```

The first command learns the radii from a split that the network was not trained on. The second
writes `A_uncertainty.csv` beside the submission: a row for each point, with its radius and the
error that is to be expected on average, in pixels of the picture. The third draws the radii as
circles; the fourth says how long, and how surely, what is between the points. `--uncertainty` may
also be the split itself, which is then predicted first. In a program:

```python
with load('RUN', flip_test=True) as model:
    model.calibrate('RECORDS/val')
    result = model.predict('shirt.jpg', category='blouse')
    result.radii, result.draw()
```

## What a circle means

A circle is one side of a bet, not a border of the point. Of 100 circles at 90 % about 10 do not
hold their point. The share is over all points of pictures like those that calibrated. It is not
promised for a single picture: where a network takes the left cuff for the right one, it is often
wrong by several points at once.

How it is made: four fifths of the pictures teach how the error grows with what the heat map tells,
which costs nothing: its peak, its spread, its second highest place, how far the mirrored picture
and other views or networks disagree, and the extent of the garment (the regression is linear in
logarithms). The other fifth, in turn, says by how much these sizes must be multiplied: the factor
is the score of rank ceil((n + 1) level) of all, which is cross-conformal prediction. What is proven
of it is weaker than of pictures that only learn and others that only calibrate, but each picture
does both; how many points the radii hold is measured below. A keypoint of a category has a factor
of its own from 10 / (1 - level) scores on, 100 at 90 %; below that the category has one, and below
that all points have.

Do not believe a circle

- where pictures are of another kind than those that calibrated: other cameras, sizes, poses or
  garments. A warning says so when a test finds it; the test needs eight pictures of a category.
- where the point is absent. The network gives a point and a circle all the same.
- where the category is wrong, or two garments are in the picture.
- as more exact than the annotations: their own errors are inside of the radius.
- on the pictures that the network was trained on, and for another network, checkpoint or way of
  predicting than calibrated it. Another way of predicting is refused; another checkpoint is not.

`--reject_above=PX` leaves out points with a larger radius: eval_metrics scores the others, the CSV
marks them, and they are not drawn. A submission stays whole, as the challenge wants it.

## Lengths

`demos/measure.py` measures what the schema names: from point to point, or between the middles of
two pairs. The interval of a length is calibrated by the same method as the radii, on lengths
between annotated points. Lengths are those in the picture. A sleeve that hangs bent, or comes
towards the camera, is longer than its straight line; a fold or a turn makes a garment narrower; a
lens shows what is near larger. No interval knows of these: for a tailor's numbers the garment lies
flat and smooth, seen from straight above, with the reference in the same plane.

## The picture of the first page

`OUT` is that of the quick start. New garments are drawn, which neither trained the network nor
calibrated the radii; the picture is the left half of the sheet.

```
python demos/make_garments.py --output_dir=NEW --count=60 --test_count=5 --size=512 --seed=77
python convert_tfrecords.py --data_dir=NEW --records_dir=NEW/records --val_fraction=0.5
python demos/draw_keypoints.py --model_dir=OUT/resnet18_dhn --data_dir=NEW/records/val \\
  --uncertainty=OUT/records/val --count=16 --output_dir=DIR
```

## Measured

{words}: {pictures} pictures with {points} annotated points, visible or occluded. Each table is a
mean over {divisions} random divisions of the split; half calibrates, half is asked about. Brackets
are 95 % intervals, by a bootstrap over pictures.

`{command}`

{machine}.

"""
_SIZES = """A radius for all points is the same for those that are easily found and for those that
are lost: it is too large for the ones and far too small for the others, as the next table shows. So
the typical radius of our own is much smaller, and the mean is not: it is made by the few points
that may be anywhere. The mean error alone, which a radius that knew the error would have, is
{oracle:.0f} % of the radius for all at 90 %.

"""
_POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
_TRADE = """
Could the mean be a third smaller than one for all, as was wanted? Radii that grow less than the
errors do, with a power of the size that is expected, hold as many points of all and have a smaller
mean. It is smallest near a power of a half, far from a third, and what it saves is taken from the
points that are hardest to find: fewer of their circles hold. So the power is 1. At 90 %:

"""


class Division(NamedTuple):
    """What one division of the pictures gave at a level.

    Attributes:
        radii: float [N, K], px; NaN where a point calibrated, is absent or another category's.
        single: The radius for all points, px.
        expected: float [N, K], px, the errors that were expected.
    """

    radii: np.ndarray
    single: float
    expected: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Predictions of a split beside its annotations."""

    predictions: Any
    annotations: Any
    schema: Any
    options: Any
    calibrations: dict = dataclasses.field(default_factory=dict, repr=False)

    def calibration(self, number: int, features: Sequence[str] = ()) -> tuple[np.ndarray, Any]:
        """Return which pictures calibrate in a division, bool [N], and what they give."""
        key = number, tuple(features or uncertainty.FEATURES)
        if key not in self.calibrations:
            calibrates = uncertainty.chosen_half(self.predictions.categories, 1000 + number)
            known = self.rows(calibrates)
            self.calibrations[key] = (
                calibrates,
                uncertainty.calibrate(
                    known.predictions,
                    known.annotations,
                    known.schema,
                    known.options,
                    key[1],
                    number,
                ),
            )
        return self.calibrations[key]

    def rows(self, chosen: np.ndarray) -> Pictures:
        """Return those of some rows: bool [N]."""
        own = self.predictions.rows(chosen)
        annotations = self.annotations.rows(np.flatnonzero(chosen))
        return Pictures(own, annotations, self.schema, self.options)

    @property
    def annotated(self) -> np.ndarray:
        """bool [N, K]."""
        return (self.predictions.visibility >= 0) & (self.annotations.visibility >= 0)

    @property
    def errors(self) -> np.ndarray:
        """float64 [N, K], px."""
        offsets = self.predictions.keypoints.astype(np.float64) - self.annotations.keypoints
        return np.linalg.norm(offsets, axis=-1)


def predict(data_dir: str, run_dirs: Sequence[str], options) -> Pictures:
    """Predict a labelled split, with what the heat maps tell."""
    from utility.predict import predictor

    schema = runs.schema_of(run_dirs[0])
    options = dataclasses.replace(options, map_features=True)
    annotations = annotations_of(data_dir, schema)
    predictions = predictor.predict_split(run_dirs, data_dir, options)
    return Pictures(predictions, annotations, schema, options)


def divide(pictures: Pictures, level: float, number: int, features: Sequence[str] = ()) -> Division:
    """Calibrate on a random half of the pictures and ask about the other; `number` is its seed."""
    calibrates, calibration = pictures.calibration(number, features)
    single = conformal.quantile(
        pictures.errors[pictures.annotated & calibrates[:, np.newaxis]], level
    )
    asked = pictures.annotated & ~calibrates[:, np.newaxis]
    radii = np.where(asked, calibration.radii(pictures.predictions, level), np.nan)
    expected = np.where(asked, calibration.expected_errors(pictures.predictions), np.nan)
    return Division(radii, single, expected)


def coverage(pictures: Pictures, radii: Sequence[np.ndarray], rows=slice(None)):
    """Return the share of errors that several sets of radii hold, with its interval: the mean over
    divisions, resampled by pictures.
    """
    errors = pictures.errors[rows]
    asked = np.array([~np.isnan(own[rows]) for own in radii])
    held = np.array([errors <= own[rows] for own in radii]) & asked
    counts = asked.sum((0, 2)).astype(float)
    return ratio_interval(held.sum((0, 2))[counts > 0], counts[counts > 0])


def coverage_table(pictures: Pictures, divisions: int) -> str:
    """Return a table: the coverage of all points and of each category, at each level."""
    categories = pictures.annotations.categories.astype(str)
    rows = {'all': slice(None), **{c: categories == c for c in pictures.schema.categories}}
    lines = [[name, str(int(pictures.annotated[part].sum()))] for name, part in rows.items()]
    for level in LEVELS:
        radii = [divide(pictures, level, number).radii for number in range(divisions)]
        for line, part in zip(lines, rows.values()):
            if np.any(pictures.annotated[part]):
                line.append(_interval(coverage(pictures, radii, part)))
    return ledger.markdown_table(
        ('points held, %', 'points', *(f'asked for {100 * level:g}' for level in LEVELS)), lines
    )


def _interval(value) -> str:
    return '{:.1f} [{:.1f}, {:.1f}]'.format(*(100 * end for end in value))


def divisions_table(pictures: Pictures, divisions: int, level: float = 0.9) -> str:
    """Return a table with a row for each division: the coverage of each category."""
    categories = pictures.annotations.categories.astype(str)
    names = [c for c in pictures.schema.categories if (categories == c).any()]
    lines = []
    for number in range(divisions):
        radii = [divide(pictures, level, number).radii]
        parts = [slice(None), *(categories == name for name in names)]
        cells = [_interval(coverage(pictures, radii, part)) for part in parts]
        lines.append([str(number + 1), *cells])
    return ledger.markdown_table((f'division, at {100 * level:g} %', 'all', *names), lines)


def sizes_table(pictures: Pictures, divisions: int) -> tuple[str, float]:
    """Return a table of mean and median radii beside a radius for all, and the mean error over that
    at 90 %.
    """
    lines, oracle = [], 0.0
    for level in LEVELS:
        for name, features in (('all', ()), ('no maps', uncertainty.POINT_FEATURES)):
            found = [divide(pictures, level, n, features) for n in range(divisions)]
            own = [one.radii[~np.isnan(one.radii)] for one in found]
            single = np.array([one.single for one in found])
            mean, median = (np.array([of(part) for part in own]) for of in (np.mean, np.median))
            smaller = np.mean([np.mean(part < one.single) for part, one in zip(own, found)])
            cells = (mean.mean(), median.mean(), single.mean())
            ratios = (np.mean(mean / single), np.mean(median / single))
            lines.append(
                [
                    f'{100 * level:g} %, features: {name}',
                    *(f'{cell:.1f}' for cell in cells),
                    *(f'{100 * (ratio - 1):+.0f} %' for ratio in ratios),
                    f'{100 * smaller:.0f} %',
                ]
            )
            if level == 0.9:
                oracle = pictures.errors[pictures.annotated].mean() / single.mean()
    header = ('radii, px', 'mean', 'median', 'one for all', 'mean against it', 'median', 'smaller')
    return ledger.markdown_table(header, lines), float(oracle)


def powers_table(pictures: Pictures, divisions: int, level: float = 0.9) -> str:
    """Return a table of radii that grow with powers of the size that is expected: their mean and
    median, and how many they hold of all points, and of the fifth of the largest sizes.
    """
    errors = np.where(pictures.annotated, pictures.errors, np.nan)
    groups = fitting.groups_of(pictures.predictions.categories, pictures.schema.keypoints)
    measured = []
    for number in range(divisions):
        calibrates, calibration = pictures.calibration(number)
        known, asked = pictures.rows(calibrates), pictures.annotated & ~calibrates[:, np.newaxis]
        annotated = known.annotated
        known_errors, known_groups = errors[calibrates], groups[calibrates]
        known_sizes = fitting.cross_fitted_sizes(
            known.predictions, known_errors, known.schema.keypoints, uncertainty.FEATURES, number
        )
        sizes = calibration.sizes(pictures.predictions)[asked]
        single = divide(pictures, level, number).single
        hard = np.argsort(sizes)[-(len(sizes) // _PARTS) :]
        for power in _POWERS:
            scores = (known_errors / known_sizes**power)[annotated]
            pools = conformal.GroupScores(fitting.sorted_groups(known_groups[annotated], scores))
            factors = {
                name: conformal.quantile(pools.of(name, level), level)
                for name in np.unique(groups[asked])
            }
            radii = sizes**power * np.array([factors[name] for name in groups[asked]])
            held = errors[asked] <= radii
            means = (radii.mean() / single - 1, np.median(radii) / single - 1)
            measured.append((*means, held.mean(), held[hard].mean()))
    means = np.mean(np.reshape(measured, (divisions, len(_POWERS), 4)), axis=0)
    lines = [
        [f'{power:g}', f'{100 * mean:+.0f} %', f'{100 * median:+.0f} %', f'{100 * share:.1f}',
         f'{100 * of_hard:.1f}']
        for power, (mean, median, share, of_hard) in zip(_POWERS, means)
    ]  # fmt: skip
    header = ('power', 'mean against one for all', 'median', 'held, %', 'of the hardest fifth, %')
    return ledger.markdown_table(header, lines)


def parts_table(pictures: Pictures, divisions: int, level: float = 0.9) -> str:
    """Return a table of points by their radius: what is held, by it and by a radius for all."""
    found = [divide(pictures, level, number) for number in range(divisions)]
    flat = [~np.isnan(one.radii) for one in found]
    radii = np.concatenate([one.radii[asked] for one, asked in zip(found, flat)])
    expected = np.concatenate([one.expected[asked] for one, asked in zip(found, flat)])
    errors = np.concatenate([pictures.errors[asked] for asked in flat])
    single = np.concatenate([np.full(asked.sum(), o.single) for o, asked in zip(found, flat)])
    lines = []
    for number, part in enumerate(np.array_split(np.argsort(radii), _PARTS), 1):
        shares = (np.mean((errors <= radii)[part]), np.mean((errors <= single)[part]))
        means = (radii[part].mean(), errors[part].mean(), expected[part].mean())
        texts = [*(f'{value:.1f}' for value in means), *(f'{100 * s:.1f}' for s in shares)]
        lines.append([f'{number} of {_PARTS}', *texts])
    header = ('points by radius', 'mean radius, px', 'mean error, px', 'expected error, px',
              'held, %', 'held by one for all, %')  # fmt: skip
    return ledger.markdown_table(header, lines)


def curve_table(pictures: Pictures, divisions: int) -> str:
    """Return a risk-coverage table: NE of the points of the smallest radii."""
    curves = []
    for number in range(divisions):
        calibrates = uncertainty.chosen_half(pictures.predictions.categories, 1000 + number)
        asked = pictures.rows(~calibrates)
        radii = divide(pictures, 0.9, number).radii[~calibrates]
        curves.append(
            uncertainty.assess(
                np.where(asked.annotated, radii, np.nan),
                asked.predictions,
                asked.annotations,
                asked.schema,
            ).curve
        )
    means = np.mean(curves, axis=0)
    lines = [[f'{100 * s:.0f} %', f'{r:.1f}', f'{100 * e:.2f}'] for s, r, e in means]
    return ledger.markdown_table(('points kept', 'largest radius, px', 'NE %'), lines)


def lengths_table(pictures: Pictures, divisions: int, level: float = 0.9) -> str:
    """Return a table of lengths between points: how often the interval holds the annotated one."""
    keypoints, held, ratios = pictures.schema.keypoints, {}, {}
    for number in range(divisions):
        calibrates, calibration = pictures.calibration(number)
        sizes = calibration.sizes(pictures.predictions)
        true = np.where(pictures.annotated[..., np.newaxis], pictures.annotations.keypoints, np.nan)
        for row in np.flatnonzero(~calibrates):
            category = str(pictures.predictions.categories[row])
            for name, ends in pictures.schema.measurements_of(category).items():
                right = uncertainty.length(ends, true[row], keypoints)
                if np.isnan(right):
                    continue
                found = uncertainty.length(ends, pictures.predictions.keypoints[row], keypoints)
                half = calibration.length_interval(category, name, ends, sizes[row], level)
                held.setdefault(name, []).append(abs(found - right) <= half)
                ratios.setdefault(name, []).append((half / right, abs(found - right) / right))
    lines = [
        [name, str(len(own) // divisions), f'{100 * np.mean(own):.1f}',
         *(f'{100 * value:.1f}' for value in np.median(ratios[name], axis=0))]
        for name, own in held.items()
    ]  # fmt: skip
    every = [one for own in held.values() for one in own]
    lines.append(['all', str(len(every) // divisions), f'{100 * np.mean(every):.1f}', '', ''])
    header = ('measurement', 'lengths', 'held, %', 'half width, % (median)', 'error, % (median)')
    return ledger.markdown_table(header, lines)


def shift_lines(pictures: Pictures, others: Pictures | None, name: str | None) -> str:
    """Return what the test of a shift says of halves of the same pictures, and of others."""
    calibrates, calibration = pictures.calibration(0)
    asked = pictures.rows(~calibrates)
    texts = []
    for label, own in (('the other half of the split', asked), (name, others)):
        if own is not None:
            found = calibration.shifts(own.predictions)
            first = f'least p {found[0].p_value:.2g}' if found else 'too few pictures to tell'
            told = uncertainty.sentence_of(found) or f'no shift ({first})'
            texts.append(f'- {label}, {len(own.predictions.image_ids)} pictures: {told}.\n')
    return ''.join(texts)


def page(
    pictures: Pictures, others: Pictures | None, words: Sequence[str], command: str, divisions: int
) -> str:
    """Return the Markdown page; `words` name the run with its split, and the other split."""
    about = _ABOUT.format(
        words=words[0],
        pictures=len(pictures.predictions.image_ids),
        points=int(pictures.annotated.sum()),
        divisions=divisions,
        command=command,
        machine=describe_machine(),
    )
    sizes, oracle = sizes_table(pictures, divisions)
    sections = {
        'Are as many points held as is said?': coverage_table(pictures, divisions)
        + '\nDivision by division:\n\n'
        + divisions_table(pictures, divisions),
        'How large are the circles?': _SIZES.format(oracle=100 * oracle)
        + sizes
        + _TRADE
        + powers_table(pictures, divisions),
        'Are they honest where it matters?': parts_table(pictures, divisions),
        'Leaving out what is uncertain': curve_table(pictures, divisions),
        'Lengths between points': lengths_table(pictures, divisions),
        'Pictures of another kind': shift_lines(pictures, others, words[1]),
    }
    return about + '\n'.join(f'### {title}\n\n{text}' for title, text in sections.items())


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'model_dir')
    options = prediction_flags.options(values)
    pictures = predict(values.data_dir, values.model_dir, options)
    others = predict(values.unlike, values.model_dir, options) if values.unlike else None
    names = ('data_dir', 'model_dir', 'flip_test', 'passes', 'scales', 'unlike', 'divisions')
    command = ledger.command('python -m benchmarks.uncertainty', names, values)
    run = ', '.join(os.path.basename(folder.rstrip('/')) for folder in values.model_dir)
    words = (values.title or f'Of the run {run} on {values.data_dir}', values.unlike)
    ledger.publish(page(pictures, others, words, command, values.divisions), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'A labelled split that the run was not trained on.')
    flags.DEFINE_list('model_dir', None, 'The run, or several with commas as one.')
    flags.DEFINE_string('unlike', None, 'A labelled split of pictures of another kind.')
    flags.DEFINE_string('title', None, 'Words for the network and its data on the page.')
    flags.DEFINE_integer('divisions', 5, 'Random divisions of the pictures.', lower_bound=1)
    prediction_flags.define(flip_test=True)
    ledger.define_output('Markdown file for the page.')
    scripts.run(main, __doc__)
