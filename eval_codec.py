"""The error that the heat maps alone make on real annotations, with a perfect network.

    python eval_codec.py --answers=ANNOTATIONS.csv --image_size=384 --heatmap_size=96 [--refine=all]

Every visible point is mapped into the crop, encoded, decoded and mapped back, and scored by NE.
Annotations do not tell the size of a picture: all are taken for squares of --source_size px. A
picture that is less high or wide has its margins elsewhere, which shifts its points against the
cells but does not change the floor over many pictures. Points outside the square are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import utility  # noqa: F401, before all that may not be installed

# isort: split
import numpy as np
from absl import flags

import config
from config import UserError
from preprocessing.datasets import named_schema
from preprocessing.files import json_bytes, write_bytes
from utility.command_line import scripts
from utility.command_line.text_table import text_table
from utility.metrics import normalized_error
from utility.metrics.annotations import read_annotations

if TYPE_CHECKING:
    import numpy as np

    from preprocessing.schema import KeypointSchema
    from preprocessing.tables import KeypointTable
    from utility.codecs.heatmaps import HeatmapCodec
    from utility.metrics.normalized_error import Score

ALL_MODES = 'all'
# 19 MB of heat maps of 96 x 96 cells; of larger maps there are fewer.
POINTS_PER_BATCH = 512
_CELLS_PER_BATCH = POINTS_PER_BATCH * 96 * 96


class Floor(NamedTuple):
    """What a codec makes of points that it has encoded itself.

    Attributes:
        score: NE and how many points it is of.
        distance: Mean distance, px of the original picture.
        points_outside: How many visible points were left out for lying outside the picture.
    """

    score: Score
    distance: float
    points_outside: int


def define_flags() -> None:
    network = config.NetworkConfig()
    flags.DEFINE_string('answers', None, 'The annotations, a CSV or RECORDS/val.')
    for name, size, what in (
        ('image_size', network.image_size, "The network's input, px"),
        ('heatmap_size', network.map_size, 'Its heat maps, cells'),
    ):
        text = ','.join(map(str, size))
        flags.DEFINE_string(name, text, f'{what}: one number, or HEIGHT,WIDTH.')
    flags.DEFINE_float('sigma', 2.0, 'Of the Gaussians, cells.')
    refine = "How maps become points; 'all': by each refine mode, the finest last."
    flags.DEFINE_string('refine', config.Experiment().refine, refine)
    flags.DEFINE_float(
        'smoothing', 0.0, 'Gaussian over the heat maps before they are decoded, cells.'
    )
    flags.DEFINE_float('source_size', 512.0, 'Longest side of the annotated pictures, px.')
    scripts.define_dataset()
    flags.DEFINE_string('output_json', None, 'Where to write the numbers too.')
    for name in ('sigma', 'source_size'):
        flags.register_validator(name, lambda value: value > 0, 'must be positive')


def size_from_text(text: str, flag: str) -> tuple[int, int]:
    """Return (height, width) of 'SIDE' or 'HEIGHT,WIDTH'.

    Raises:
        UserError: It is neither, or not positive.
    """
    parts = [part.strip() for part in text.split(',')]
    most = len(str(config.MAX_SIDE))
    right = (part.isdecimal() and len(part) <= most for part in parts)
    if len(parts) > 2 or not all(right) or not all(0 < int(p) <= config.MAX_SIDE for p in parts):
        raise UserError(
            f'--{flag}={text[:40]}: must be one number from 1 to {config.MAX_SIDE}, or HEIGHT,WIDTH'
        )
    return int(parts[0]), int(parts[-1])


def codec_floor(
    table: KeypointTable, schema: KeypointSchema, codec: HeatmapCodec, source_size: float
) -> Floor:
    """Encode and decode the visible points of annotations, and score what comes back.

    Args:
        source_size: Side of the square that the pictures are taken for, px.

    Raises:
        UserError: No point is left to score.
    """
    visible = table.visibility == 1
    # Annotators have clicked on pixel 512 of pictures of 512 px, the center of the one beyond.
    inside = ((table.keypoints >= 0) & (table.keypoints <= source_size + 0.5)).all(-1)
    points_outside = int(np.count_nonzero(visible & ~inside))
    predicted = table.keypoints.copy()
    predicted[visible & inside] = decoded_again(
        table.keypoints[visible & inside], codec, source_size
    )
    normalizer = normalized_error.normalizers_of(table, schema)
    distances = normalized_error.normalized_distances(
        predicted, table.keypoints, np.where(inside, table.visibility, 0), normalizer
    )
    skipped = int(np.count_nonzero(normalizer <= 0))
    score = normalized_error.summarize(distances, table.categories, schema, skipped)
    return Floor(score, float(np.nanmean(distances * normalizer[:, np.newaxis])), points_outside)


def decoded_again(points: np.ndarray, codec: HeatmapCodec, source_size: float) -> np.ndarray:
    """Send points through the crop and its heat maps, and back.

    Args:
        points: float32 [N, 2], px of a picture that is a square of `source_size` px.
        source_size: Side of the picture, px.

    Returns:
        float32 [N, 2], px of the same picture.
    """
    import tensorflow as tf

    from preprocessing import geometry
    from utility.command_line import progress

    to_crop = geometry.letterbox((source_size, source_size), codec.image_size)

    def round_trip(batch):
        in_crop = geometry.transform_points(batch, to_crop)
        decoded, _ = codec.decode(codec.encode(in_crop[:, tf.newaxis]))
        return geometry.transform_points(decoded[:, 0], tf.linalg.inv(to_crop))

    fitting = max(1, _CELLS_PER_BATCH // math.prod(codec.heatmap_size))
    at_once = min(POINTS_PER_BATCH, fitting)
    starts = range(0, len(points), at_once)
    batches = (points[start : start + at_once] for start in starts)
    label = f'{codec.refine}, batches of {at_once} points'
    decoded = [round_trip(b).numpy() for b in progress.track(batches, len(starts), label)]
    return np.concatenate(decoded) if decoded else points


def format_floors(floors: Mapping[str, Floor], categories: Sequence[str]) -> str:
    """Return a table with one line per refine mode, and what was scored."""
    titles = ['px', 'all', *categories]
    rows = [['refine', *titles]]
    for mode, floor in floors.items():
        errors = [floor.score.normalized_error]
        errors += [floor.score.per_category.get(name, float('nan')) for name in categories]
        numbers = [floor.distance, *(100 * error for error in errors)]
        rows.append([mode, *(f'{number:.4f}' for number in numbers)])
    score, _, points_outside = floors[list(floors)[-1]]
    return '\n'.join(
        [
            'NE in percent, px in the original picture',
            text_table(rows),
            f'{score.points} points of {score.images} images; '
            f'{score.skipped_images} images skipped: no normalizer; '
            f'{points_outside} visible points left out: outside the picture',
        ]
    )


def report(floors: Mapping[str, Floor], codec: HeatmapCodec, source_size: float) -> dict:
    """Return what --output_json holds: settings, the last mode's score, and all in 'modes'."""
    modes = {
        mode: {**dataclasses.asdict(floor.score), 'distance': floor.distance}
        for mode, floor in floors.items()
    }
    last = list(floors)[-1]
    return {
        **modes[last],
        'points_outside': floors[last].points_outside,
        'refine': last,
        'image_size': codec.image_size,
        'heatmap_size': codec.heatmap_size,
        'sigma': codec.sigma,
        'smoothing': codec.smoothing,
        'source_size': source_size,
        'modes': modes,
    }


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not values.answers:
        raise UserError('--answers is missing: the annotations, a CSV or a split of the records')
    sizes = [size_from_text(values[f].value, f) for f in ('image_size', 'heatmap_size')]

    schema = named_schema(values.dataset)
    table = read_annotations(values.answers, schema)

    from utility.codecs.heatmaps import HeatmapCodec
    from utility.codecs.refinements import REFINEMENTS

    floors = {}
    for mode in REFINEMENTS.names() if values.refine == ALL_MODES else (values.refine,):
        codec = HeatmapCodec(*sizes, sigma=values.sigma, refine=mode, smoothing=values.smoothing)
        try:
            floors[mode] = codec_floor(table, schema, codec, values.source_size)
        except ValueError as error:
            raise UserError(f'{values.answers}: {error}') from error
    floors = dict(sorted(floors.items(), key=lambda item: -item[1].score.normalized_error))
    print(format_floors(floors, list(schema.categories)))
    if values.output_json:
        numbers = report(floors, codec, values.source_size)
        write_bytes(values.output_json, json_bytes(numbers))


if __name__ == '__main__':
    define_flags()
    scripts.run(main, __doc__)
