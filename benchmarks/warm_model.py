"""What keeping a network ready saves: an image a call by utility.predict.load, and by a command.

    python -m benchmarks.warm_model [--recipe=resnet18_cpn] [--size=256] [--images=20]

Prints ratios, because times depend on the machine: that of the second image of a model to the
network alone, and that of eval_metrics.py for one image to that of a call. Weights are random
and images are noise: only time matters here.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks import isolated, recipes, synthetic_data, synthetic_runs
from utility.command_line import scripts

_IMAGE_SIZE = 512  # px


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    experiment = recipes.resized(recipes.load(values.recipe), values.size)
    with tempfile.TemporaryDirectory() as folder:
        run = synthetic_runs.write_run(os.path.join(folder, 'run'), experiment)
        split = synthetic_runs.write_split(os.path.join(folder, 'records'), 1, _IMAGE_SIZE)
        first, call = _by_model(run, values.images)
        network = isolated.call(_alone, experiment, values.images)
        command = _by_command(run, split)
    print(f'first image {first:.2f} s, each further one {1000 * call:.1f} ms')
    print(f'an image a call takes {call / network:.2f} times what the network alone takes')
    print(f'eval_metrics.py takes {command / call:.0f} times what a call takes, for one image')


def _by_model(run: str, count: int) -> tuple[float, float]:
    """Return seconds of the first image, and the median of those of each further one."""
    from utility.predict import load

    jpegs = [synthetic_data.draw_jpeg(seed, _IMAGE_SIZE) for seed in range(count)]
    with load(run) as model:
        first = _seconds(lambda: model.predict(jpegs[0], synthetic_runs.CATEGORY))
        calls = [
            _seconds(lambda jpeg=jpeg: model.predict(jpeg, synthetic_runs.CATEGORY))
            for jpeg in jpegs
        ]
    return first, statistics.median(calls)


def _alone(experiment, count: int) -> float:
    """Return the median seconds of the network and its decoding, of one image that is in memory."""
    from benchmarks import networks

    step = networks.step(experiment, 'infer', 1)[0]
    step()
    return statistics.median(_seconds(step) for _ in range(count))


def _by_command(run: str, split: str) -> float:
    command = [sys.executable, 'eval_metrics.py', f'--data_dir={split}', f'--model_dir={run}']
    return _seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def _seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == '__main__':
    flags.DEFINE_string('recipe', 'resnet18_cpn', 'Which network.')
    flags.DEFINE_integer('size', 256, 'Of its crops, px.', lower_bound=32)
    flags.DEFINE_integer('images', 20, 'How many are timed.', lower_bound=1)
    scripts.run(main, __doc__)
