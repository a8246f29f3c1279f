"""What a garment to be written is, and the registry of writers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from config import Registry, UserError
from preprocessing import files
from preprocessing.datasets import items
from preprocessing.json_input import Node
from preprocessing.schema import KeypointSchema

WRITERS = Registry(
    'output format',
    """Name -> (garments, schema, WriteOptions) -> the files of an output: name below it, with '/'
    -> text. The garments are checked, those of a picture need not follow each other, and the
    schema knows their categories. A name may come from an image_id and is not to be trusted.""",
)

# Those that write several files, into a directory that must be new or empty.
FOLDER_FORMATS = ('label_studio', 'labelme', 'yolo')
DECIMALS = 3  # of a coordinate in px
# The image_id of one of several garments of a picture, as preprocessing.datasets.items makes it.
_ITEM_ID = re.compile(r'(.+\.(?:jpe?g|png|bmp|webp|tiff?|gif))#(.+)', re.IGNORECASE | re.DOTALL)


class Garment(NamedTuple):
    """A garment with its keypoints, predicted or annotated.

    Attributes:
        image_name: The picture, as a path below the data with '/'.
        key: Of the garment in its picture, as its image_id has it; ''.
        category: Of the schema.
        keypoints: float [K, 2], continuous px of the picture (pixel centers at +0.5).
        visibility: int [K]: 1 visible, 0 occluded, -1 absent.
        image_size: (height, width), px.
        scores: float [K], how sure a network is of each point; None where none has looked.
        box: float [4] (x_min, y_min, x_max, y_max) px, or None.
    """

    image_name: str
    key: str
    category: str
    keypoints: np.ndarray
    visibility: np.ndarray
    image_size: tuple[int, int]
    scores: np.ndarray | None = None
    box: np.ndarray | None = None

    @property
    def score(self) -> float:
        """The mean score of the points that are there; 0 without any."""
        there = self.visibility >= 0
        return float(np.mean(self.scores[there])) if there.any() else 0.0


class WriteOptions(NamedTuple):
    """What some formats need beside the garments.

    Attributes:
        point_offset: px that the conversion has added to the coordinates of points in the data; it
            is taken off again where the output is compared with them (coco_results).
        coco_ids: Path of a COCO annotation file, whose numbers of pictures and categories are
            used (coco, coco_results).
    """

    point_offset: float = 0.0
    coco_ids: str | None = None


def picture_of(image_id: str) -> tuple[str, str]:
    """Return the name of the picture and the key of the garment that an image_id tells, or ''."""
    found = _ITEM_ID.fullmatch(image_id)
    return found.groups() if found else (image_id, '')


def garments_of(
    image_ids: Sequence[str],
    categories: Sequence[str],
    keypoints: np.ndarray,
    visibility: np.ndarray,
    image_sizes: np.ndarray,
    scores: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
) -> list[Garment]:
    """Return N garments from arrays, such as those of utility.predict.predictor.Predictions.

    Args:
        image_ids: str [N], 'shop/1.jpg' or, where a picture has several garments, 'shop/1.jpg#17'.
        categories: str [N].
        keypoints: float [N, K, 2], continuous px.
        visibility: int [N, K].
        image_sizes: int [N, 2], (height, width), px.
        scores: float [N, K], or None.
        boxes: float [N, 4], or None; one of no area is none.
    """
    made = []
    for row, image_id in enumerate(image_ids):
        name, key = picture_of(str(image_id))
        box = None if boxes is None or not (boxes[row, 2:] > boxes[row, :2]).all() else boxes[row]
        height, width = map(int, image_sizes[row])
        points = keypoints[row], visibility[row], (height, width)
        score = None if scores is None else scores[row]
        made.append(Garment(name, key, str(categories[row]), *points, score, box))
    return made


def write(
    name: str,
    output_dir: str,
    garments: Sequence[Garment],
    schema: KeypointSchema,
    options: WriteOptions | None = None,
) -> list[str]:
    """Write garments in a format, all of its files or none.

    Args:
        name: Of WRITERS.
        output_dir: A new or empty directory; one file alone may also replace an earlier one.
        garments: At least one.
        schema: Of them, of a whole data set.
        options: For the format; None: WriteOptions().

    Returns:
        The paths of the files, local or remote.

    Raises:
        UserError: A garment cannot be written (names it), or there is something in the directory.
    """
    texts = WRITERS.get(name)(checked(garments, schema), schema, options or WriteOptions())
    return files.write_folder(output_dir, {path: text.encode() for path, text in texts.items()})


def checked(garments: Iterable[Garment], schema: KeypointSchema) -> list[Garment]:
    """Return the garments, their pictures by plain names.

    Raises:
        UserError: There is none; a picture's name leads out of the data or cannot be written, a
            category is unknown, a coordinate or a box is not finite; or a picture has two sizes.
    """
    good, sizes = [], {}
    for garment in garments:
        node = Node(garment.image_name, f'image_id {garment.image_name[:80]!r}')
        name = items.safe_name(node)
        if not name.isprintable():  # text that no reader could decode is not printable either
            raise node.error('cannot be the name of a picture in a text file')
        schema.indices(garment.category)
        there = garment.keypoints[garment.visibility >= 0]
        if not (
            np.isfinite(there).all() and (garment.box is None or np.isfinite(garment.box).all())
        ):
            raise node.error('a coordinate is not a finite number')
        if sizes.setdefault(name, garment.image_size) != garment.image_size:
            raise node.error('garments of one picture have pictures of different sizes')
        good.append(garment._replace(image_name=name))
    if not good:
        raise UserError('there is nothing to write')
    return good


def by_picture(garments: Iterable[Garment]) -> dict[str, list[Garment]]:
    """Return the name of each picture -> its garments, both in the order given."""
    found: dict[str, list[Garment]] = {}
    for garment in garments:
        found.setdefault(garment.image_name, []).append(garment)
    return found


def points_of(garment: Garment, schema: KeypointSchema) -> Mapping[str, tuple[float, float, int]]:
    """Return the keypoints of its category -> x, y, px, and visibility; absent ones at 0, 0."""
    points = {}
    for k in schema.indices(garment.category):
        v = int(garment.visibility[k])
        x, y = garment.keypoints[k].tolist() if v >= 0 else (0.0, 0.0)
        points[schema.keypoints[k]] = (round(x, DECIMALS), round(y, DECIMALS), v)
    return points


def box_of(garment: Garment) -> list[float]:
    """Return the box, (x_min, y_min, x_max, y_max) px: its own, that of its points, at least 1 px
    wide and high, or that of the whole picture.
    """
    height, width = garment.image_size
    points = garment.keypoints[garment.visibility >= 0]
    if garment.box is not None:
        box = garment.box
    elif len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        box = [*low, *np.maximum(high, low + 1)]
    else:
        box = (0, 0, width, height)
    return [round(float(value), DECIMALS) for value in box]
