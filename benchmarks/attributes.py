"""What a network tells of real pictures beside their points, category and presence, and the cost.

    python -m benchmarks.attributes --data_dir=DATA --work_dir=WORK [--output=docs/presence.md]
                [--steps=600] [--size=128] [--category_weight=0.001] [--presence_weight=0.001]

Trains the script's network for all categories twice, with the same seed: without and with the heads
for category and presence; both start as `ImageNet+garments` of benchmarks.few_pictures, whose WORK
may be shared. A fifth of DATA, annotated pictures in the layout of the challenge, is held out. Run
again, the command goes on where it stopped.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from benchmarks import few_pictures
from benchmarks.common import category_evidence, ledger, real_pictures
from benchmarks.common.isolated import describe_machine
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.metrics import attributes, normalized_error
from utility.metrics.annotations import annotations_of
from utility.statistics import bootstrap
from utility.statistics.reliability import expected_calibration_error

_COMMAND = 'python -m benchmarks.attributes --data_dir=SAMPLE --work_dir=WORK'
_CELLS_FILE = 'attributes.json'
_START = f'{few_pictures.IMAGENET}+{few_pictures.GARMENTS}'
WITHOUT, WITH = 'without heads', 'with heads'
_MARGIN = 0.02  # of the accuracy: what less than it adds is not worth its code
_WANTED = 3.0  # points of expected calibration error, at most; see the page
_ABOUT = """# Category and presence

`--set loss.category_weight=0.001` and `--set loss.presence_weight=0.001` make a network tell two
more things of a picture: the probability of each category, and of each point the probabilities that
it is absent (the garment has no such point, or the picture cuts it off), occluded or visible.
[nets/heads/attributes.py](../nets/heads/attributes.py) describes the layers. This page is made by

```
{command}
```

`{script}` at {size} px, all categories, {steps} steps of {batch} pictures from weights of
{start}, seed {seed}, {num_train:,} pictures to train with. All scores are of {images}
held-out real pictures of FashionAI's challenge, one look at each. {machine}.
Both networks see the same pictures in the same order; [few_pictures.md](few_pictures.md) has the
same recipe and seed in another order.

## What was wanted

{targets}
## Points

NE in percent, lower is better; brackets hold the 95 % interval of a bootstrap over the pictures.

{points}
- {comparison}
- With the **predicted category** the network decides which points a picture has. A point that a
  wrong category lacks is scored as predicted at (-1, -1), as the challenge scores a missing one.
- The last line is harsher: every point of a picture with a wrong category is scored so.

## Category

{categories}
**{accuracy:.1f} %** of the categories are right (95 % interval {low:.1f} to {high:.1f});
{top_2:.1f} % are one of the two likeliest. {combined}

Other weights and lengths of the training, from the same start:

{trials}
Give the category where it is known. The pictures are of shops: many show a person in several
garments, and are annotated for one of them. Whether a picture of a blouse and a skirt was meant for
the blouse cannot be seen in it. Cardigans, sweatshirts and long shirts are another border, between
blouse, outwear and dress. That is what wrong pictures look like to the eye; it is not measured.

## Presence

Of the points that a picture's category has. *Share* is how many are; precision and recall are of
the points whose probability is 50 % or more. *ECE* is the expected calibration error in points: how
far, on average, what happens is from the probability that was told. *Scaled* is the same after
scaling by a temperature and three biases. All points have a scaling, each category has one near it,
and each point of it, together with the one that it is mirrored to, has one near that: the nearer,
the fewer points there are. The scalings are fitted on four fifths of the held-out pictures and
scored on the rest, in turn, so that no picture is scaled by itself; the error is the mean over
{divisions} random divisions. *Chance* is what a perfectly calibrated network of these probabilities
would score on so few points, in the mean of {draws} simulations.

{presence}
Of what is told after scaling, {verdict}

### Reliability

Of all points, after scaling, in one division: what was told and what happened.

{reliability}
## What this means

- The probability of a point is given that the picture shows its category. Points of other
  categories are not trained, and what is told of them means nothing.
- A network is scaled once, by
  `python eval_metrics.py --data_dir=RECORDS/val --model_dir=RUN --calibrate`, which writes
  `probabilities.json` beside its checkpoints. All later predictions are scaled.
- Do not believe a probability on pictures unlike those it was scaled by: other photographers, other
  crops or other annotators have other shares of occluded points. Annotators decide what counts as
  occluded, and a network learns their habit, not the cloth.
"""


def measure(setting, records_dir: str, work_dir: str, arm: str, seed: int, losses) -> dict:
    """Train, if need be, and score one of the two networks; distances and reports as plain values.

    Args:
        setting: A few_pictures.Setting.
        records_dir: With the splits train and val.
        work_dir: Where runs are.
        arm: WITH or WITHOUT.
        losses: Weights of category and presence.
    """
    run_dir = _train(setting, records_dir, work_dir, arm, seed, losses)
    row = {'machine': describe_machine()}
    row['num_train'] = real_pictures.number_of(records_dir, 'train')
    return {**row, **scores(run_dir, os.path.join(records_dir, 'val'))}


def _train(setting, records_dir: str, work_dir: str, arm: str, seed: int, losses) -> str:
    """Train one of the networks, both from the same start, if it is not there; return its run."""
    key = _key(setting, arm, seed, losses)
    name = ''.join(letter if letter.isalnum() else '_' for letter in key)
    run_dir = os.path.join(work_dir, 'runs', f'attributes_{name}')
    names = ('category_weight', 'presence_weight')
    pairs = zip(names, losses) if arm == WITH else ()
    sets = [f'--set=loss.{name}={value:g}' for name, value in pairs]
    weights = few_pictures.weights_of(_START, setting, work_dir, seed)
    words = few_pictures.command(setting, records_dir, run_dir, setting.steps, seed, weights)
    real_pictures.run([*words, *sets], f'the training of {os.path.basename(run_dir)}')
    return run_dir


def scores(run_dir: str, split_dir: str) -> dict[str, Any]:
    """Return the distances of a run with the given category, with the predicted one and with all
    points of a wrong one missing, and what utility.metrics.attributes reports, as plain values.
    """
    from utility.predict import predictor
    from utility.predict.views_to_points import PredictOptions

    schema = runs.schema_of(run_dir)
    answers = annotations_of(split_dir, schema)
    answers = answers._replace(image_ids=answers.lines)  # told apart by place
    predictions = predictor.predict_split([run_dir], split_dir, PredictOptions())
    given = answers._replace(keypoints=predictions.keypoints)
    tables = {'given': given}
    row: dict[str, Any] = {'report': attributes.report_of(predictions, answers, schema)}
    if predictions.category_probabilities is not None:
        told = predictions.predicted_categories(schema)
        lacks = np.array(
            [[k not in schema.indices(name) for k in range(schema.num_keypoints)] for name in told]
        )
        wrong = (told != answers.categories)[:, np.newaxis]
        for name, lost in (('predicted', lacks), ('strict', wrong)):
            tables[name] = given._replace(visibility=np.where(lost, -1, given.visibility))
    for name, table in tables.items():
        distances, *_ = normalized_error.distances_to(answers, table, schema, 'count')
        row[name] = [[None if np.isnan(d) else float(d) for d in own] for own in distances]
    if predictions.presence is not None:
        row['calibration'] = _calibration(predictions, answers, schema)
        row['combined'] = category_evidence.accuracies(predictions, answers, schema)
    return row


_DRAWS = 200
_DIVISIONS = 5


def _calibration(predictions, answers, schema) -> dict[str, dict[str, Any]]:
    """Return the expected calibration error of scaled presence, by category and event: 'scaled', of
    each division of the pictures, and 'chance', what chance alone makes, the mean over outcomes
    that are drawn from the scaled probabilities themselves.
    """
    scored = attributes.scored_presence(
        predictions.presence, answers.visibility, answers.categories, schema
    )
    scaled = [scored.cross_scaled(seed) for seed in range(_DIVISIONS)]
    labels, rng = answers.categories[scored.images], np.random.default_rng(0)
    parts = {'all': np.full(len(labels), True), **{c: labels == c for c in schema.categories}}
    found: dict[str, dict[str, Any]] = {name: {} for name, rows in parts.items() if rows.any()}
    for name, by_event in found.items():
        rows = parts[name]
        for least, event in ((1, 'present'), (2, 'visible')):
            told = [one[rows, least:].sum(axis=1) for one in scaled]
            happened = scored.outcomes[rows] >= least
            draws = (rng.uniform(size=len(happened)) < told[0] for _ in range(_DRAWS))
            by_event[event] = {
                'scaled': [expected_calibration_error(one, happened) for one in told],
                'chance': float(np.mean([expected_calibration_error(told[0], d) for d in draws])),
            }
    return found


def _distances(row: Mapping[str, Any], name: str):
    return np.array(row[name], float)  # None becomes NaN


def _points_table(cells: Mapping[str, Mapping[str, Any]]) -> str:
    texts = {'given': 'given', 'predicted': 'predicted', 'strict': 'predicted, wrong ones in full'}
    lines = []
    for arm in (WITHOUT, WITH):
        row = cells[arm]
        for name, text in texts.items():
            if name in row:
                ends = bootstrap.ne_interval(_distances(row, name))
                low, high = (f'{100 * end:.2f}' for end in ends[1:])
                lines.append((arm, text, f'{100 * ends.value:.2f} [{low}, {high}]'))
    return ledger.markdown_table(('network', 'category', 'NE %'), lines)


def _comparison(found: bootstrap.Comparison) -> str:
    value, low, high = (100 * end for end in found.difference)
    beyond = found.p_value < 1 - found.level
    verdict = f'{"worse" if value > 0 else "better"} beyond chance' if beyond else 'within chance'
    return (
        f'The heads change NE by {value:+.2f} points (95 % interval {low:+.2f} to {high:+.2f}, '
        f'paired by picture, p = {found.p_value:.2f}): {verdict}.'
    )


def _targets(row: Mapping[str, Any], compared: bootstrap.Comparison) -> str:
    """Return what was wanted of the heads, what was measured, and whether that is enough."""
    accuracy = 100 * row['report']['category']['accuracy']
    errors = [100 * np.nanmean(_distances(row, name)) for name in ('predicted', 'given')]
    loss = errors[0] - errors[1]
    change = 100 * compared.difference.value
    is_worse = change > 0 and compared.p_value < 1 - compared.level
    gaps = [100 * np.mean(divisions) for divisions in _scaled_errors(row).values()]
    lines = [
        ('categories that are right', 'at least 97 %', f'{accuracy:.1f} %', accuracy >= 97),
        ('NE by a predicted category', 'within 0.3 points', f'{loss:+.2f} points', loss <= 0.3),
        ('NE with heads', 'not worse beyond chance', f'{change:+.2f} points', not is_worse),
        (
            'scaled ECE of each category',
            f'at most {_WANTED:g} points',
            f'{min(gaps):.2f} to {max(gaps):.2f} points',
            max(gaps) <= _WANTED,
        ),
    ]
    rows = [(*texts, 'reached' if is_met else '**missed**') for *texts, is_met in lines]
    return ledger.markdown_table(('', 'wanted', 'measured', ''), rows)


def _category_table(report: Mapping[str, Any]) -> str:
    """Return the confusion table: a row an annotated category, a column a predicted one."""
    names = list(report['per_category'])
    lines = []
    for name, own in report['per_category'].items():
        shares = [own[key] for key in ('accuracy', 'precision')]
        texts = ['' if share is None else f'{100 * share:.1f}' for share in shares]
        counts = [str(report['confusion'][name].get(other, 0)) for other in names]
        lines.append((name, str(own['images']), *counts, *texts))
    header = ('category', 'pictures', *(f'as {n}' for n in names), 'recall %', 'precision %')
    return ledger.markdown_table(header, lines)


def _key(setting, arm: str, seed: int, losses) -> str:
    return f'{setting.prefix}{arm}/{seed}/{losses if arm == WITH else ""}'


def _trials(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of all networks with heads that were measured: `_key` -> row."""
    lines = []
    for key, row in rows.items():
        _, _, size, steps, *_, arm, _, losses = key.split('/')
        if arm == WITH:
            weights = losses.strip('()').split(', ')
            shares = [row['report']['category'][name] for name in ('accuracy', 'top_2_accuracy')]
            error = np.nanmean(_distances(row, 'given'))
            numbers = [f'{100 * number:.1f}' for number in (*shares, error)]
            lines.append((size, steps, *weights, *numbers))
    header = (
        'px', 'steps', 'category_weight', 'presence_weight', 'right, %', 'of the two likeliest, %',
        'NE %',
    )  # fmt: skip
    return ledger.markdown_table(header, sorted(lines, key=lambda line: (int(line[1]), line)))


def _combined(accuracies: Mapping[str, float]) -> str:
    """Return in words what the points add to the category head."""
    head, *others = accuracies.items()
    best = max(share for _, share in others) - head[1]
    verdict = 'too little to be built in' if best < _MARGIN else 'enough to be built in'
    texts = ', '.join(f'{100 * share:.1f} % {name}' for name, share in others)
    return (
        'Weighing what is told against how well the points of each category are found, by weights '
        f'fitted on other pictures, gives {texts}, and {100 * head[1]:.1f} % {head[0]}: {verdict}.'
    )


def _scaled_errors(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return 'EVENT of CATEGORY' -> the error after scaling in each division."""
    return {
        f'{event} of {name}': part['scaled']
        for name, own in row['calibration'].items()
        for event, part in own.items()
        if name != 'all'
    }


def _presence_table(row: Mapping[str, Any], event: str) -> str:
    report = row['report']['presence']
    parts = {'all': report['all'], **report['per_category']}
    lines = []
    for name, own in parts.items():
        shares = [own[event][key] for key in ('share', 'precision', 'recall')]
        after = row['calibration'][name][event]
        mean = sum(after['scaled']) / len(after['scaled'])
        errors = (own[event]['expected_calibration_error'], mean, after['chance'])
        texts = [f'{100 * value:.2f}' for value in errors]
        percents = [f'{100 * value:.1f}' for value in shares]
        lines.append((name, f'{own["points"]:,}', *percents, *texts))
    header = (event, 'points', 'share %', 'precision %', 'recall %', 'ECE', 'scaled', 'chance')
    return ledger.markdown_table(header, lines)


def _verdict(row: Mapping[str, Any]) -> str:
    divisions = _scaled_errors(row)
    means = {name: 100 * sum(own) / len(own) for name, own in divisions.items()}
    beyond = [f'{name} ({error:.2f})' for name, error in means.items() if error > _WANTED]
    number = f'{len(means) - len(beyond)} of {len(means)}'
    what = f'{number} errors by category are at most the {_WANTED:g} points that are wanted'
    worst = max(divisions, key=lambda name: max(divisions[name]))
    single = f'In a single division the largest is {100 * max(divisions[worst]):.2f}, {worst}.'
    return f'{what}; not {", ".join(beyond)}. {single}' if beyond else f'{what}. {single}'


def _reliability_table(report: Mapping[str, Any], event: str) -> str:
    lines = [
        (
            f'{100 * own["low"]:.0f} to {100 * own["high"]:.0f}',
            f'{own["count"]:,}',
            f'{100 * own["mean"]:.1f}',
            f'{100 * own["share"]:.1f}',
        )
        for own in report['after_scaling']['reliability'][event]
    ]
    return ledger.markdown_table((f'{event}, told %', 'points', 'mean told %', 'were %'), lines)


def page(
    cells: Mapping[str, Mapping[str, Any]],
    setting,
    seed: int,
    command_text: str,
    rows: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the Markdown page.

    Args:
        cells: Of the two networks, WITHOUT and WITH -> what `measure` gives.
        setting: A few_pictures.Setting.
        seed: Of both.
        rows: Of all networks that were measured, also with other settings: `_key` -> the same.
    """
    from scipy import stats

    row = cells[WITH]
    category, presence = row['report']['category'], row['report']['presence']
    right = round(category['accuracy'] * category['images'])
    ends = stats.binomtest(right, category['images']).proportion_ci(method='wilson')
    events = ('present', 'visible')
    compared = bootstrap.compare(*(_distances(cells[arm], 'given') for arm in (WITH, WITHOUT)))
    return _ABOUT.format(
        command=command_text,
        **setting._asdict(),
        batch=setting.experiment.data.batch_size,
        start=_START,
        seed=seed,
        num_train=row['num_train'],
        images=len(row['given']),
        machine=row['machine'],
        points=_points_table(cells),
        comparison=_comparison(compared),
        categories=_category_table(category),
        trials=_trials(rows),
        accuracy=100 * category['accuracy'],
        low=100 * ends.low,
        high=100 * ends.high,
        top_2=100 * category['top_2_accuracy'],
        targets=_targets(row, compared),
        draws=_DRAWS,
        divisions=_DIVISIONS,
        presence='\n'.join(_presence_table(row, event) for event in events),
        verdict=_verdict(row),
        combined=_combined(row['combined']),
        reliability='\n'.join(_reliability_table(presence, event) for event in events),
    )


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'work_dir')
    setting = few_pictures.Setting.of_flags(values)
    losses = (values.category_weight, values.presence_weight)
    path = os.path.join(values.work_dir, _CELLS_FILE)
    records_dir = real_pictures.converted(values)
    cells = {}
    for arm in (WITH, WITHOUT):
        key = _key(setting, arm, values.seed, losses)
        network = setting, records_dir, values.work_dir, arm, values.seed, losses
        real_pictures.keep(path, key, functools.partial(measure, *network))
        cells[arm] = real_pictures.load(path)[key]
    names = (
        'script', 'size', 'steps', 'garments', 'garment_steps', 'seed', 'category_weight',
        'presence_weight', 'output',
    )  # fmt: skip
    command_text = ledger.command(_COMMAND, names, values)
    text = page(cells, setting, values.seed, command_text, real_pictures.load(path))
    ledger.publish(text, values.output)


if __name__ == '__main__':
    few_pictures.define_flags()
    flags.DEFINE_integer('seed', 1, 'Of both trainings.')
    flags.DEFINE_float('category_weight', 0.001, 'loss.category_weight of the network with heads.')
    flags.DEFINE_float('presence_weight', 0.001, 'loss.presence_weight of it.')
    scripts.run(main, __doc__)
