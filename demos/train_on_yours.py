"""Trains on annotated pictures what this machine can train in the time given; scores and draws it.

    bash demos/train_on_yours.sh DATA [MINUTES] [--output_dir=out/yours]
    python demos/train_on_yours.py --data_dir=DATA --minutes=10

DATA is what convert_tfrecords.py reads. A fifth of its pictures, by a hash of their content, is
held out: the network is scored on these. Size, head, steps and precision follow from the time of a
training step on this machine; the network is EfficientNet-Lite0 with its ImageNet weights. With few
pictures of FashionAI's kind it sees synthetic garments first. Run again, it goes on where it was.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from absl import flags  # noqa: E402

from config import UserError  # noqa: E402
from nets.precision import Compute  # noqa: E402
from preprocessing.files import json_bytes, write_bytes  # noqa: E402
from preprocessing.json_input import read_json  # noqa: E402
from utility.command_line import scripts  # noqa: E402

BACKBONE = 'efficientnet_lite0'
NO_WEIGHTS = 'none'
VAL_FRACTION = 0.2
FEWEST = 20  # annotated pictures; with fewer neither the training nor the score says anything
BATCH_SIZE = 16  # what docs/few_pictures.md was measured with


class Candidate(NamedTuple):
    """A network that may be trained.

    Attributes:
        head: Of the recipe train_efficientnet_lite0_<head>.py.
        size: Side of the pictures, px.
        cost: Time of a training step over that of the last candidate: a first guess, of two cores
            of an AMD EPYC; the step of the chosen one is measured.
    """

    head: str
    size: int
    cost: float

    @property
    def script(self) -> str:
        return f'train_{BACKBONE}_{self.head}.py'


# Best first. With the same steps the cpn head has the lower NE, and takes 1.4 times as long.
CANDIDATES = (
    Candidate('cpn', 256, 5.3),
    Candidate('cpn', 192, 3.0),
    Candidate('cpn', 160, 2.2),
    Candidate('cpn', 128, 1.4),
    Candidate('dhn', 128, 1.0),
)
# Steps that a larger network must have time for, to be chosen: those of docs/few_pictures.md.
ENOUGH_STEPS = 600
MOST_EPOCHS = 300  # after which the same pictures bring nothing more
# Seconds that are not steps: graph, first step and evaluation of a training; scores and drawing.
START_SECONDS, SCORE_SECONDS = 40.0, 45.0
INPUT_FACTOR = 1.15  # a training's step, reading and augmenting included, over the step alone
FEWEST_STEPS = 20
# Up to so many pictures of FashionAI's kind the network sees synthetic garments first, for half of
# the time. docs/few_pictures.md has what they bring as steps on top; where pictures are many, steps
# on these are thought to bring more in the same time, which was not measured.
GARMENTS_HELP_UP_TO = 500
GARMENTS, GARMENT_SECONDS = 2000, 90.0  # how many; seconds to draw and convert them
# Factor on NE for twice the pictures, of docs/few_pictures.md: from ImageNet's weights, and with
# garments after these.
DOUBLING = {'ImageNet': 0.88, 'ImageNet+garments': 0.91}


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained.

    Attributes:
        head, size: Of the candidate.
        steps: On the given pictures.
        garment_steps: Before them, on synthetic ones; 0: none.
        precision: Of the network.
    """

    head: str
    size: int
    steps: int
    garment_steps: int
    precision: str


def choose(seconds: float, base_seconds: float) -> Candidate:
    """Return the best candidate with time for ENOUGH_STEPS, else the last.

    Args:
        seconds: For the steps, in all.
        base_seconds: Of a step of the last candidate.
    """
    for candidate in CANDIDATES:
        if seconds / (candidate.cost * base_seconds * INPUT_FACTOR) >= ENOUGH_STEPS:
            return candidate
    return CANDIDATES[-1]


def sees_garments(dataset: str, num_train: int, seconds: float) -> bool:
    """Return whether synthetic garments come first, with so many seconds for the steps in all."""
    fits = seconds > 3 * (GARMENT_SECONDS + START_SECONDS)
    return dataset == 'fashionai' and num_train <= GARMENTS_HELP_UP_TO and fits


def fit(
    candidate: Candidate,
    times: Mapping[str, float],
    seconds: float,
    num_train: int,
    with_garments: bool,
) -> Training:
    """Return the training of a candidate that fits into the time.

    Args:
        times: Precision -> seconds of a step.
        seconds: For the steps, in all.
        num_train: Pictures to train with.
        with_garments: Whether half of the time is for synthetic ones.

    Raises:
        UserError: There is no time for anything.
    """
    precision = min(times, key=times.__getitem__)
    step_seconds = times[precision] * INPUT_FACTOR
    garment_steps = 0
    if with_garments:
        seconds = (seconds - GARMENT_SECONDS - START_SECONDS) / 2
        garment_steps = int(seconds / step_seconds)
    steps = min(int(seconds / step_seconds), MOST_EPOCHS * num_train // BATCH_SIZE)
    if steps < FEWEST_STEPS:
        raise UserError(
            f'--minutes: leaves time for {max(0, steps)} steps of {step_seconds:.2f} s; '
            f'{FEWEST_STEPS} is the least, and {ENOUGH_STEPS} are what a training needs'
        )
    return Training(candidate.head, candidate.size, steps, garment_steps, precision)


def outlook(error: float, num_train: int, start: str) -> str:
    """Return what more pictures would bring, if it is as on FashionAI's.

    Args:
        error: NE, a fraction.
        num_train: Pictures that were trained with.
        start: Key of DOUBLING.
    """
    factor = DOUBLING[start]
    lines = [
        f'With twice the pictures NE was {factor:.2f} times as large on FashionAI (from {start}, '
        'docs/few_pictures.md). If it is so here:'
    ]
    for power in (1, 2, 3):
        number = num_train * 2**power
        lines.append(
            f'{number:8,} pictures to train with: NE near {100 * error * factor**power:.1f} %'
        )
    return '\n'.join([*lines, 'That is a guess from other pictures, and at the same steps.'])


def _run(words: Sequence[str]) -> None:
    """Run a command of the project; end as it does where it fails, which it has told of."""
    print('\n$ python ' + shlex.join(words), flush=True)
    code = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def _convert(data_dir: str, records_dir: str, dataset: str, val_fraction: float) -> None:
    if not os.path.exists(os.path.join(records_dir, 'dataset.json')):
        words = [f'--data_dir={data_dir}', f'--records_dir={records_dir}', f'--dataset={dataset}']
        _run(['convert_tfrecords.py', *words, f'--val_fraction={val_fraction}'])


def _counts(records_dir: str) -> tuple[int, int]:
    """Return pictures to train with, and held out."""
    splits = json.loads(pathlib.Path(records_dir, 'dataset.json').read_text())['splits']
    return tuple(sum(splits.get(n, {}).get('records', {}).values()) for n in ('train', 'val'))


def _command(
    training: Training, data: str, run_dir: str, steps: int, weights: str | None
) -> list[str]:
    """Return the script and its flags of a training of so many steps."""
    num_train, _ = _counts(data)
    batch_size = min(BATCH_SIZE, num_train)
    return [
        f'train_{BACKBONE}_{training.head}.py',
        f'--data_dir={data}',
        f'--model_dir={run_dir}',
        '--category=all',
        f'--precision={training.precision}',
        '--keep_checkpoints=1',
        f'--log_every={max(1, steps // 10)}',
        f'--set=network.image_size={training.size},{training.size}',
        f'--set=data.batch_size={batch_size}',
        f'--set=epochs={steps * batch_size / num_train:.8g}',
        '--set=evaluations=1',
        *([f'--init_checkpoint={weights}'] if weights else []),
    ]


def _experiment(candidate: Candidate, records_dir: str):
    from preprocessing import training_data

    script = importlib.import_module(candidate.script[: -len('.py')])
    size = f'network.image_size={candidate.size},{candidate.size}'
    return training_data.for_records(script.EXPERIMENT.override(size), records_dir)


def _plan(records_dir: str, dataset: str, seconds: float) -> Training:
    """Return what fits into so many seconds, the measurement of steps included."""
    from utility.train.preflight import faster_precision

    start = time.monotonic()
    num_train, _ = _counts(records_dir)
    smallest = _experiment(CANDIDATES[-1], records_dir)
    base = faster_precision.step_times(smallest, records_dir, Compute(), ['float32'])['float32']
    left = seconds - START_SECONDS - SCORE_SECONDS
    with_garments = sees_garments(dataset, num_train, left)
    candidate = choose(left / (2 if with_garments else 1), base)
    precisions = faster_precision.available(Compute())
    experiment = _experiment(candidate, records_dir)
    times = faster_precision.step_times(experiment, records_dir, Compute(), precisions)
    left -= time.monotonic() - start
    return fit(candidate, times, left, num_train, with_garments)


def _keep_source(path: pathlib.Path, source: Mapping[str, object]) -> None:
    """Note what a folder is of, or refuse one that is of something else.

    Raises:
        UserError: It is.
    """
    if path.exists():
        there = read_json(path).value
        if there != source:
            raise UserError(f'{path.parent} is of {there}, not of {source}; give --output_dir')
        return
    write_bytes(str(path), json.dumps(source).encode())


def _kept_plan(path: pathlib.Path, key: Mapping[str, object], make) -> Training:
    """Return the plan of an earlier call with the same arguments, or a new one, which is kept."""
    if path.exists():
        kept = read_json(path)
        of = kept.field('of').of(dict)
        if of != key:
            raise UserError(f'{path.parent} is of {of}, not of {key}; give --output_dir')
        values = kept.field('training')
        values.refuse_others([field.name for field in dataclasses.fields(Training)])
        texts = {name: values.field(name).of(str) for name in ('head', 'precision')}
        counts = {name: values.field(name).of(int) for name in ('size', 'steps', 'garment_steps')}
        return Training(**texts, **counts)
    training = make()
    write_bytes(str(path), json_bytes({'of': key, 'training': dataclasses.asdict(training)}))
    return training


def _train(training: Training, records_dir: str, out: pathlib.Path, weights: str | None) -> str:
    """Train, on garments first if it is planned; the run."""
    if training.garment_steps:
        garments = out / 'garments'
        if not garments.exists():
            part = f'{garments}.part'
            words = [f'--output_dir={part}', f'--count={GARMENTS}', '--test_count=0', '--size=256']
            _run(['demos/make_garments.py', *words])
            os.rename(part, garments)
        data, run_dir = f'{garments}_records', str(out / 'run_garments')
        _convert(str(garments), data, 'fashionai', 0.05)
        _run(_command(training, data, run_dir, training.garment_steps, weights))
        weights = os.path.join(run_dir, 'all')
    run_dir = str(out / 'run')
    _run(_command(training, records_dir, run_dir, training.steps, weights))
    return run_dir


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values, start = flags.FLAGS, time.monotonic()
    if not values.data_dir:
        raise UserError('DATA is missing: bash demos/train_on_yours.sh DATA [MINUTES]')
    if not os.path.isdir(values.data_dir):
        raise UserError(f'DATA={values.data_dir}: there is no such folder')
    out = pathlib.Path(values.output_dir).absolute()
    out.mkdir(parents=True, exist_ok=True)
    records_dir, data_dir = str(out / 'records'), os.path.abspath(values.data_dir)
    _keep_source(out / 'source.json', {'data': data_dir, 'dataset': values.dataset})
    _convert(data_dir, records_dir, values.dataset, VAL_FRACTION)
    num_train, num_val = _counts(records_dir)
    if num_train + num_val < FEWEST or num_val < 2:
        raise UserError(
            f'DATA={values.data_dir}: {num_train} pictures to train with and {num_val} held out; '
            f'at least {FEWEST} in all and 2 held out are needed'
        )
    weights = None if values.init_checkpoint == NO_WEIGHTS else values.init_checkpoint
    if weights == BACKBONE:
        _run(['-m', 'utility.pretrained', '--get', BACKBONE])
    key = {'data': data_dir, 'minutes': values.minutes, 'weights': values.init_checkpoint}
    training = _kept_plan(
        out / 'plan.json',
        key,
        lambda: _plan(
            records_dir, values.dataset, 60 * values.minutes - (time.monotonic() - start)
        ),
    )
    print(f'\n{num_train} pictures to train with, {num_val} held out: {training}', flush=True)
    run_dir = _train(training, records_dir, out, weights)
    val = f'{records_dir}/val'
    scores = out / 'scores.json'
    score = [f'--data_dir={val}', f'--model_dir={run_dir}', '--flip_test', '--checkpoint=last']
    _run(['eval_metrics.py', *score, '--confidence', '--baseline', f'--output_json={scores}'])
    _run(['demos/draw_keypoints.py', *score, f'--output_dir={out}'])
    error = json.loads(scores.read_text())['normalized_error']
    print(f'\nNE {100 * error:.1f} % on {num_val} held-out pictures, by {training}')
    if training.steps < ENOUGH_STEPS:
        print(f'{training.steps} steps are few, {ENOUGH_STEPS} are enough: give it more minutes')
    elif weights:  # the factors of a doubling are of trainings of ENOUGH_STEPS
        garments = '+garments' if training.garment_steps else ''
        print(outlook(error, num_train, f'ImageNet{garments}'))
    print(f'Sheet    {out}/keypoints.jpg\nScores   {scores}\nRun      {run_dir}')
    print(f'{(time.monotonic() - start) / 60:.1f} minutes')


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'Annotated pictures, as convert_tfrecords.py reads them.')
    flags.DEFINE_float('minutes', 10.0, 'That it may take.', 0.0)
    flags.DEFINE_string(
        'dataset',
        'fashionai',
        'Which data set or format this is, as of convert_tfrecords.py: docs/data.md.',
    )
    flags.DEFINE_string('output_dir', 'out/yours', 'Where all of it is kept.')
    flags.DEFINE_string('init_checkpoint', BACKBONE, 'Weights to start from; none: from scratch.')
    scripts.run(main, __doc__)
