"""What it is worth to choose which pictures to label, without training a network for each choice.

    python -m benchmarks.labelling_probe --records_dir=RECORDS --run=RUN --work_dir=WORK
                [--output=docs/labelling_probe.md] [--pictures=50,100,150,200] [--starts=20]

RUN looks once at all pictures of RECORDS/train and RECORDS/val. Each start takes the first number
of random pictures as labelled. To these come suggested or random ones, and a ridge regression from
the features of the labelled pictures to their points, as shares of the picture, is scored on
RECORDS/val. It costs seconds, so there are many starts; but a network that learns its features may
gain more or less by a choice: benchmarks.labelling trains it. What RUN has said is kept in WORK.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import ledger
from benchmarks.common.isolated import describe_machine
from benchmarks.labelling import RANDOM, SUGGESTED, share_of
from preprocessing import files
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.metrics import normalized_error
from utility.metrics.annotations import annotations_of

_COMMAND = 'python -m benchmarks.labelling_probe --records_dir=RECORDS --run=RUN --work_dir=WORK'
_PENALTY = 300.0  # of the ridge regression, on features of variance 1
_FEWEST = 3  # pictures that have a point; with fewer it is predicted in the middle
_FIRST_START = 100  # seed; by earlier ones it was decided how to choose
_CATEGORY_WEIGHT = 3.0  # of the features that tell the category
_ABOUT = """# Which pictures to label: a probe

Made by

```
{command}
```

(its docstring has the flags). RUN, here one of benchmarks.few_pictures that has learned 50 of them,
looks at {train:,} pictures for training and {val} for validation of FashionAI's challenge. A ridge
regression from its features to the points is fitted to few of the former, of {starts} random starts
with {first} pictures, the same number of each category. **random** adds random ones, the same
number of each category; **suggested** adds those that `python -m utility.labels suggest` would. NE
on validation in percent, lower is better, with the standard error over the starts. **As many random
ones** is the number at which a straight line through the logarithms of the random ones has the NE
of the suggested ones, and in brackets the share of it that was labelled; wanted was 60 %.
{machine}.

NE is high, because the features are frozen. A network that learns them may gain more or less by the
choice: `python -m benchmarks.labelling` trains it. How the choice is made was decided by such
probes on other starts, seeds below {first_start}; those of the table are from there on.

"""


class Known(NamedTuple):
    """A split of the records as a run sees it: what it says, the annotations, the normalizers."""

    survey: Any
    table: Any
    normalizers: Any


def known_of(run_dir: str, split_dir: str, path: str) -> Known:
    """Return what a run says of a labelled split of the records; kept in a file."""
    from utility.labels import pictures, survey
    from utility.predict.views_to_points import PredictOptions

    schema = runs.schema_of(run_dir)
    if os.path.exists(path):
        with np.load(path, allow_pickle=False) as stored:
            found = survey.Survey(**stored)
    else:
        options = PredictOptions()
        found = survey.survey([run_dir], pictures.of_split(split_dir, schema), options)
        found = dataclasses.replace(found, image_ids=found.image_ids.astype(str))
        with files.written_whole(path) as partial, pathlib.Path(partial).open('wb') as file:
            np.savez(file, **dataclasses.asdict(found))
    table = annotations_of(split_dir, schema)
    # The annotations stand by category, the survey in the order of the files.
    rows = {image_id: row for row, image_id in enumerate(table.image_ids)}
    table = table.rows(np.array([rows[image_id] for image_id in found.image_ids]))
    return Known(found, table, normalized_error.normalizers_of(table, schema))


def design(known: Known, train: Known, schema):
    """Return the regressors of N pictures, float64 [N, D]: features, category, 1."""
    mean, deviation = train.survey.features.mean(0), train.survey.features.std(0)
    scaled = (known.survey.features - mean) / np.maximum(deviation, 1e-6)
    names = np.array(list(schema.categories))
    category = _CATEGORY_WEIGHT * (known.survey.categories[:, np.newaxis] == names)
    return np.concatenate([scaled, category, np.ones([len(scaled), 1])], axis=1)


def probe(train: Known, val: Known, schema, rows) -> float:
    """Return NE on `val` of a ridge regression that was fitted to some rows of `train`."""
    from utility.metrics.normalized_error import normalized_error

    inputs, seen = design(train, train, schema)[rows], design(val, train, schema)
    sizes = train.table.image_sizes[rows][:, np.newaxis, ::-1]
    targets = np.asarray(train.table.keypoints[rows], np.float64) / sizes
    is_there = train.table.visibility[rows] >= 0
    predicted = np.full([len(seen), schema.num_keypoints, 2], 0.5)
    for k in range(schema.num_keypoints):
        own, target = inputs[is_there[:, k]], targets[is_there[:, k], k]
        if len(own) < _FEWEST:
            continue
        mean = target.mean(axis=0)
        kernel = own @ own.T + _PENALTY * np.eye(len(own))
        predicted[:, k] = mean + seen @ (own.T @ np.linalg.solve(kernel, target - mean))
    points = predicted * val.table.image_sizes[:, np.newaxis, ::-1]
    return normalized_error(points, val.table.keypoints, val.table.visibility, val.normalizers)


def chosen_at_random(categories, count: int, seed: int):
    """Return `count` rows, the same number of each category as far as that goes: int [count]."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(categories == name)) for name in np.unique(categories)]
    in_turn = [order[place] for place in range(count) for order in orders if place < len(order)]
    return np.array(in_turn[:count])


def suggested(train: Known, schema, start, count: int):
    """Return the rows that are suggested when those of `start` are labelled: int [count]."""
    from utility.labels import suggestions

    others = np.setdiff1d(np.arange(len(train.survey.categories)), start)
    choices = suggestions.ranked(train.survey.rows(others), train.survey.rows(start), schema, count)
    return others[[choice.row for choice in choices]]


def measure(train: Known, val: Known, schema, numbers: Sequence[int], starts: int):
    """Return RANDOM and SUGGESTED -> number -> NE of each start."""
    found: dict[str, dict[int, list[float]]] = {
        how: {number: [] for number in numbers} for how in (RANDOM, SUGGESTED)
    }
    for seed in range(_FIRST_START, _FIRST_START + starts):
        at_random = chosen_at_random(train.survey.categories, numbers[-1], seed)
        start = at_random[: numbers[0]]
        more = suggested(train, schema, start, numbers[-1] - numbers[0])
        for number in numbers:
            found[RANDOM][number].append(probe(train, val, schema, at_random[:number]))
            rows = np.concatenate([start, more[: number - numbers[0]]])
            found[SUGGESTED][number].append(probe(train, val, schema, rows))
    return found


def table(found, numbers: Sequence[int]) -> str:
    """Return a line for random and suggested pictures, a column for each number."""
    means = [statistics.mean(found[RANDOM][number]) for number in numbers]
    lines, shares = [], ['as many random ones', '']
    for how, by_number in found.items():
        line = [how]
        for number in numbers:
            errors = by_number[number]
            spread = statistics.stdev(errors) / math.sqrt(len(errors)) if errors[1:] else 0.0
            line.append(f'{100 * statistics.mean(errors):.2f} ± {100 * spread:.2f}')
        lines.append(line)
    shares += [share_of(n, numbers, means, found[SUGGESTED][n]) for n in numbers[1:]]
    return ledger.markdown_table(('pictures', *map(str, numbers)), [*lines, shares])


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'records_dir', 'run', 'work_dir')
    numbers = ledger.numbers_of('pictures', 2)
    schema = runs.schema_of(values.run)
    os.makedirs(values.work_dir, exist_ok=True)
    train, val = (
        known_of(
            values.run,
            os.path.join(values.records_dir, split),
            os.path.join(values.work_dir, f'survey_{split}.npz'),
        )
        for split in ('train', 'val')
    )
    found = measure(train, val, schema, numbers, values.starts)
    about = _ABOUT.format(
        command=ledger.command(_COMMAND, ('pictures', 'starts', 'output'), values),
        train=len(train.survey.categories),
        val=len(val.survey.categories),
        starts=values.starts,
        first_start=_FIRST_START,
        first=numbers[0],
        machine=describe_machine(),
    )
    ledger.publish(about + table(found, numbers), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('records_dir', None, 'RECORDS, with train and val.')
    flags.DEFINE_string('run', None, 'The run that looks at the pictures.')
    flags.DEFINE_string('work_dir', None, 'Where is kept what the run has said.')
    flags.DEFINE_list('pictures', ['50', '100', '150', '200'], 'Labelled at first, and then.')
    flags.DEFINE_integer('starts', 20, 'How many random first pictures.', 1)
    ledger.define_output('Markdown file for the page, too.')
    scripts.run(main, __doc__)
