"""What keeping a network ready saves: an image a call by utility.predict.load, and by a command.

    python -m benchmarks.warm_model [--recipe=resnet18_cpn] [--size=256] [--images=20]
    python -m benchmarks.warm_model --recipe=resnet18_dhn --size=64 --images=10000

Prints ratios, because times depend on the machine: that of the second image of a model to the
network alone, and that of eval_metrics.py for one image to that of a call; and the memory of the
process after a tenth of the images and after all. Weights are random and images are noise: only
time and memory matter here.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from absl import flags

from benchmarks import networks
from benchmarks.common import isolated, recipes, synthetic_data, synthetic_runs
from benchmarks.common.interleaved import seconds_of
from utility.command_line import scripts
from utility.predict import load
from utility.train.memory import resident_mb

_IMAGE_SIZE = 512  # px
_NUM_DISTINCT = 64  # images, after which they repeat
_MOST_ALONE = 100  # times the network alone is timed


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    experiment = recipes.resized(recipes.load(values.recipe), values.size)
    with tempfile.TemporaryDirectory() as folder:
        run = synthetic_runs.write_run(os.path.join(folder, 'run'), experiment)
        split = synthetic_runs.write_split(os.path.join(folder, 'records'), 1, _IMAGE_SIZE)
        model = isolated.call(_by_model, run, values.images)
        network = isolated.call(_alone, experiment, min(values.images, _MOST_ALONE))
        command = _by_command(run, split)
    call, memory = model.call, model.memory
    print(f'first image {model.first:.2f} s, each further one {1000 * call:.1f} ms')
    print(f'an image a call takes {call / network:.2f} times what the network alone takes')
    print(f'eval_metrics.py takes {command / call:.0f} times what a call takes, for one image')
    print('memory ' + ', '.join(f'{size:.0f} MB after {n:,} images' for n, size in memory.items()))


class _Kept(NamedTuple):
    """What a model that is kept open took.

    Attributes:
        first: Seconds of the first image.
        call: The median of those of each further one.
        memory: Number of images -> MB of the process after so many.
    """

    first: float
    call: float
    memory: dict[int, float]


def _by_model(run: str, count: int) -> _Kept:
    jpegs = [synthetic_data.draw_jpeg(n, _IMAGE_SIZE) for n in range(min(count, _NUM_DISTINCT))]
    marks, memory, calls = {max(1, count // 10), count}, {}, []
    with load(run) as model:
        first = seconds_of(lambda: model.predict(jpegs[0], synthetic_runs.CATEGORY))
        for number in range(1, count + 1):
            jpeg = jpegs[number % len(jpegs)]
            calls.append(seconds_of(lambda: model.predict(jpeg, synthetic_runs.CATEGORY)))  # noqa: B023
            if number in marks:
                memory[number] = resident_mb()
    return _Kept(first, statistics.median(calls), memory)


def _alone(experiment, count: int) -> float:
    """Return the median seconds of the network and its decoding, of one image that is in memory."""
    step = networks.step(experiment, 'infer', 1)[0]
    step()
    return statistics.median(seconds_of(step) for _ in range(count))


def _by_command(run: str, split: str) -> float:
    command = [sys.executable, 'eval_metrics.py', f'--data_dir={split}', f'--model_dir={run}']
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


if __name__ == '__main__':
    flags.DEFINE_string('recipe', 'resnet18_cpn', 'Which network.')
    flags.DEFINE_integer('size', 256, 'Of its crops, px.', lower_bound=32)
    flags.DEFINE_integer('images', 20, 'How many are timed, one a call.', lower_bound=1)
    scripts.run(main, __doc__)
