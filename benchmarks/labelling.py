"""What it is worth to choose which pictures to label: NE against as many random ones.

    python -m benchmarks.labelling --data_dir=DATA --work_dir=WORK [--output=docs/labelling_real.md]
                [--pictures=50,100,200] [--seeds=1,2] [--most_trainings=1]

Of each seed a network is trained on the first number of random pictures. It ranks all others as
`python -m utility.labels suggest` does, and for each further number one network is trained on the
pictures that it names, and one on random ones. All are scored on the same held-out pictures. DATA
and WORK are those of benchmarks.few_pictures. Each training is kept in WORK/labelling.json: run
again, the command goes on where it stopped; --most_trainings ends it after so many.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

from benchmarks import few_pictures
from benchmarks.common import ledger, real_pictures
from utility.checkpoints import runs
from utility.command_line import scripts

RANDOM, SUGGESTED = 'random', 'suggested'
_FILE = 'labelling.json'
_GARMENT_SEED = 1  # of the training with synthetic pictures, which all others start from
_START = f'{few_pictures.IMAGENET}+{few_pictures.GARMENTS}'
_COMMAND = 'python -m benchmarks.labelling --data_dir=SAMPLE --work_dir=WORK'
_ABOUT = """# Which pictures to label

Made by

```
{command}
```

(its docstring has the flags). `{script}` at {size} px, category `{category}`, {precision}; every
training takes {steps} steps from published weights and synthetic pictures (as
[few_pictures.md](few_pictures.md) tells), seeds {seeds}. Its last weights are scored on {images}
held-out real pictures of FashionAI's challenge ({points} points; NE in percent, lower is better).
{machine}.

- **random**: pictures drawn at random, the same number of each category.
- **suggested**: the first column's random ones, and those that their network suggests of the other
  {others:,} as `python -m utility.labels suggest` does.
- Each cell is the mean of its seeds, then the seeds one by one. **As many random ones** is the
  number at which a straight line through the logarithms of the row of random ones has the NE of the
  suggested ones, and in brackets the share of it that was labelled. Wanted was 60 %.

"""


class Cell(NamedTuple):
    """A training: RANDOM or SUGGESTED, the number of its pictures, and the seed."""

    how: str
    number: int
    seed: int

    @property
    def name(self) -> str:
        return '_'.join(map(str, self))


def cells_of(numbers: Sequence[int], seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield the trainings in an order in which each finds what it needs."""
    for seed in seeds:
        yield Cell(RANDOM, numbers[0], seed)
        for number, how in itertools.product(numbers[1:], (SUGGESTED, RANDOM)):
            yield Cell(how, number, seed)


def suggested(run_dir: str, records_dir: str, known_dir: str, count: int) -> list[str]:
    """Return the names of the training pictures that the network of a run suggests.

    Args:
        run_dir: The run.
        records_dir: Of all pictures.
        known_dir: Records of the pictures that it was trained on.
    """
    from utility.labels import pictures, suggestions, survey
    from utility.predict.views_to_points import PredictOptions

    schema = runs.schema_of(run_dir)
    look = functools.partial(survey.survey, [run_dir], options=PredictOptions())
    known = look(pictures.of_split(os.path.join(known_dir, 'train'), schema))
    others = pictures.of_split(os.path.join(records_dir, 'train'), schema, set(known.image_ids))
    candidates = look(others)
    choices = suggestions.ranked(candidates, known, schema, count)
    return [str(candidates.image_ids[choice.row]) for choice in choices]


class Work(NamedTuple):
    """Where the trainings are, and what they have in common.

    Attributes:
        folder: WORK.
        records_dir: Of all pictures.
        setting: Of the trainings.
        numbers: Of the pictures, ascending.
    """

    folder: str
    records_dir: str
    setting: few_pictures.Setting
    numbers: Sequence[int]

    def run_dir(self, cell: Cell) -> str:
        return os.path.join(self.folder, 'runs', f'labelling_{cell.name}')

    def part(self, cell: Cell) -> str:
        """Return the records of a cell, written if they are not there."""
        target = f'{self.records_dir}_{cell.name}'
        if cell.how == RANDOM:
            return few_pictures.part_of(self.records_dir, target, cell.number, cell.seed)
        first = Cell(RANDOM, self.numbers[0], cell.seed)
        names = set(self._suggested(first)[: cell.number - first.number])
        start = _names_of(self.part(first))
        return real_pictures.part_of(
            self.records_dir,
            target,
            lambda _, examples: [
                position
                for position, example in enumerate(examples)
                if _name_of(example) in names | start
            ],
        )

    def _suggested(self, first: Cell) -> list[str]:
        path = os.path.join(self.folder, f'suggested_{first.seed}.json')
        if not os.path.exists(path):
            count = self.numbers[-1] - first.number
            names = suggested(self.run_dir(first), self.records_dir, self.part(first), count)
            real_pictures.save(path, {'names': names})
        return real_pictures.load(path)['names']

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Train and score a cell, as few_pictures.measure."""
        weights = few_pictures.weights_of(_START, self.setting, self.folder, _GARMENT_SEED)
        part, run_dir = self.part(cell), self.run_dir(cell)
        return few_pictures.measure_part(self.setting, part, run_dir, cell.seed, weights)


def _names_of(records_dir: str) -> set[str]:
    import tensorflow as tf

    from preprocessing import records

    files = records.record_files(records.split_patterns(os.path.join(records_dir, 'train'), 'all'))
    return {_name_of(one) for one in tf.data.TFRecordDataset(files).as_numpy_iterator()}


def _name_of(example: bytes) -> str:
    import tensorflow as tf

    features = tf.train.Example.FromString(example).features.feature
    return features['image/id'].bytes_list.value[0].decode()


def errors_of(rows: dict[str, Any], how: str, number: int, kind: str) -> list[float]:
    """Return the NE of each seed that was measured, by seed."""
    prefix = f'{how}_{number}_'
    found = {int(n.removeprefix(prefix)): row for n, row in rows.items() if n.startswith(prefix)}
    return [real_pictures.error_of(found[seed], kind) for seed in sorted(found)]


def as_many_random(numbers: Sequence[int], errors: Sequence[float], error: float) -> float:
    """Return the number of random pictures that has this NE, by a line through the logarithms.

    Args:
        numbers: Of random pictures.
        errors: Their NE, which must fall.
        error: That is asked for.
    """
    slope, intercept = statistics.linear_regression(
        [*map(math.log, numbers)], [*map(math.log, errors)]
    )
    return math.exp((math.log(error) - intercept) / slope)


def share_of(number: int, numbers, random_errors, errors: Sequence[float]) -> str:
    """Return the number of random pictures with the mean of these NE, as of as_many_random, and in
    brackets the share of it that `number` is.
    """
    same = as_many_random(numbers, random_errors, statistics.mean(errors))
    return f'{same:.0f} ({100 * number / same:.0f} %)'


def table(rows: dict[str, Any], numbers: Sequence[int], kind: str) -> str:
    """Return a line for random and suggested pictures, a column for each number."""
    known = [n for n in numbers if errors_of(rows, RANDOM, n, kind)]
    means = [statistics.mean(errors_of(rows, RANDOM, n, kind)) for n in known]
    lines, shares = [], ['as many random ones']
    for how in (RANDOM, SUGGESTED):
        line = [how]
        for number in numbers:
            errors = errors_of(rows, how, number, kind)
            each = ', '.join(f'{100 * error:.1f}' for error in errors)
            mean = f'{100 * statistics.mean(errors):.1f} ({each})' if errors else ''
            line.append(mean)
            if how == SUGGESTED:
                is_told = errors and len(known) > 1
                shares.append(share_of(number, known, means, errors) if is_told else '')
        lines.append(line)
    titles = ('pictures', *map(str, numbers))
    return ledger.markdown_table(titles, [*lines, shares])


def page(work: Work, rows: dict[str, Any], command_text: str) -> str:
    """Return the Markdown page of what has been measured."""
    row = next(iter(rows.values()))
    about = _ABOUT.format(
        **work.setting._asdict(),
        command=command_text,
        seeds=', '.join(sorted({name.rsplit('_', 1)[1] for name in rows})),
        **real_pictures.counts_of(row),
        others=real_pictures.number_of(work.records_dir, 'train') - work.numbers[0],
    )
    parts = (('Without test-time augmentation', 'plain'), ('With the flip test', 'flip'))
    return about + '\n'.join(
        f'## {title}\n\n{table(rows, work.numbers, kind)}' for title, kind in parts
    )


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'work_dir')
    numbers = ledger.numbers_of('pictures', 2)
    setting = few_pictures.Setting.of_flags(values)
    work = Work(values.work_dir, real_pictures.converted(values), setting, numbers)
    path = os.path.join(values.work_dir, _FILE)
    cells = list(cells_of(numbers, [int(seed) for seed in values.seeds]))
    missing = [cell for cell in cells if cell.name not in real_pictures.load(path)]
    for cell in missing[: values.most_trainings or None]:
        real_pictures.keep(path, cell.name, functools.partial(work.measure, cell))
    command_text = ledger.command(
        _COMMAND,
        ('script', 'size', 'steps', 'garments', 'garment_steps', 'pictures', 'seeds', 'output'),
        values,
    )
    ledger.publish(page(work, real_pictures.load(path), command_text), values.output)


if __name__ == '__main__':
    few_pictures.define_flags()
    flags.DEFINE_list('pictures', ['50', '100', '200'], 'To train with: labelled at first, then.')
    flags.DEFINE_list('seeds', ['1', '2'], 'Of the first pictures, the random ones, the training.')
    flags.DEFINE_integer('most_trainings', 0, 'Stop after so many; 0: none is left out.', 0)
    scripts.run(main, __doc__)
