"""What smoothing over time does to the points of a video: trembling at rest, delay in motion.

    python -m benchmarks.video_smoothing --model_dir=out/resnet18_dhn [--garments=8]

A synthetic garment stands still, moves to the side and back, and stands still again, under the
noise of a camera that differs from frame to frame. Errors are in px, against where its points are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import ledger
from config import UserError
from utility.command_line import scripts
from utility.predict import load
from utility.predict.temporal_filter import FilterOptions, OneEuroFilter

RATE = 25.0  # frames per second
_SIZE = 256  # px, the longer side
_REST, _MOTION = 25, 50  # frames
_REACH = 0.15  # of the side, to either side
_NOISE = 6.0  # gray levels
_WARM_UP = 5  # frames that are not measured
OPTIONS = {
    'none': None,
    'cutoff 0.75 Hz': FilterOptions(cutoff=0.75),
    'default': FilterOptions(),
    'cutoff 3 Hz': FilterOptions(cutoff=3.0),
    'speed gain 0': FilterOptions(speed_gain=0.0),
    'speed gain 20': FilterOptions(speed_gain=20.0),
    'speed gain 300': FilterOptions(speed_gain=300.0),
}


class Measured(NamedTuple):
    """What points of videos were like.

    Attributes:
        tremble: Mean way from one frame to the next at rest, px.
        error_at_rest, error_in_motion: Mean distance to where the points are, px.
        delay: In motion, frames behind those that are not smoothed.
    """

    tremble: float
    error_at_rest: float
    error_in_motion: float
    delay: float


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not values.model_dir:
        raise UserError('--model_dir is missing: a trained run')
    with load(values.model_dir) as model:
        tracks = [_track(model, number) for number in range(values.garments)]
    rows = [
        (name, *(f'{value:.2f}' for value in measure(options, tracks)))
        for name, options in OPTIONS.items()
    ]
    header = ('filter', 'tremble, px', 'error at rest, px', 'in motion, px', 'delay, frames')
    ledger.publish(ledger.markdown_table(header, rows), values.output)


def offsets() -> np.ndarray:
    """Return where the garment is in each frame, px to the right: float64 [frames]."""
    phase = np.linspace(0, 2 * np.pi, _MOTION, endpoint=False)
    rest = np.zeros(_REST)
    return np.concatenate([rest, _REACH * _SIZE * np.sin(phase), rest])


def _track(model, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the frames of a video and where they are: [frames, K, 2] px each."""
    import cv2

    from demos.garments import dataset

    counts = {dataset.TRAIN: 1, dataset.TEST: flags.FLAGS.garments}
    sample = dataset.draw_sample(dataset.GarmentSet(1, _SIZE, counts), dataset.TEST, number)
    rng = np.random.default_rng(number)
    height, width = sample.image.shape[:2]
    frames = []
    for offset in offsets():
        matrix = np.float32([[1, 0, offset], [0, 1, 0]])
        moved = cv2.warpAffine(
            sample.image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        noisy = moved + rng.normal(0, _NOISE, moved.shape)
        frames.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    found = np.stack([one.points for one in model.predict_each(frames, sample.category)])
    own = list(model.schema.indices(sample.category))
    truth = sample.keypoints[own] + np.stack([offsets(), 0 * offsets()], -1)[:, np.newaxis]
    shown = sample.visibility[own] == 1
    return found[:, shown], truth[:, shown]


def measure(options: FilterOptions | None, tracks) -> Measured:
    """Return how smoothed points are; no options: as they are."""
    velocity = np.gradient(offsets())
    moves = np.abs(velocity) > np.abs(velocity).max() / 2
    rests = np.arange(len(velocity)) < _REST
    rests[:_WARM_UP] = False
    parts = []
    for points, truth in tracks:
        smooth = OneEuroFilter(RATE, _SIZE, options) if options else np.asarray
        found = np.stack([smooth(frame) for frame in points])
        errors = np.linalg.norm(found - truth, axis=-1)
        tremble = np.linalg.norm(np.diff(found[rests], axis=0), axis=-1).mean()
        behind = (points - found)[moves, :, 0] / velocity[moves, np.newaxis]
        parts.append((tremble, errors[rests].mean(), errors[moves].mean(), behind.mean()))
    return Measured(*np.mean(parts, axis=0))


if __name__ == '__main__':
    ledger.define_output('Markdown file for the table.')
    flags.DEFINE_string('model_dir', None, 'A run on garments.')
    flags.DEFINE_integer('garments', 8, 'Videos.', lower_bound=1)
    scripts.run(main, __doc__)
