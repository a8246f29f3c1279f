"""What a network makes of pictures that nobody has labelled: points, doubts, and features.

A look at a picture is one at its mirror image, too. Where the two disagree, or the heat maps have
no clear peak, the network does not know.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import category_points
from utility.predict import fusion, views_to_points
from utility.predict.views_to_points import PredictOptions
from utility.predict.warm_network import WarmNetwork

_HELD = 256  # pictures in memory at a time
_LEAST_SIZE = 1e-3  # of a garment, px: so that points all in one place have one


class Picture(NamedTuple):
    """A picture to look at.

    Attributes:
        image_id: Its name.
        category: Of the garment.
        pixels: uint8 [H, W, 3] RGB.
        box: float32 [4] px of the garment; zeros where it is not known.
    """

    image_id: str
    category: str
    pixels: np.ndarray
    box: np.ndarray


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a network makes of N pictures.

    Attributes:
        image_ids: str objects [N].
        categories: str [N].
        image_sizes: int [N, 2], (height, width), px.
        keypoints: float32 [N, K, 2], px, K of the full schema.
        scores: float32 [N, K], as of Predictions.
        disagreement: float32 [N, K], px between the points of the picture and of its mirror image.
        features: float32 [N, D], the mean of the deepest features of the backbone.
    """

    image_ids: np.ndarray
    categories: np.ndarray
    image_sizes: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    disagreement: np.ndarray
    features: np.ndarray

    def rows(self, chosen: np.ndarray) -> Survey:
        """Return the survey of some of the pictures: indices, or bool [N]."""
        fields = dataclasses.fields(self)
        return Survey(*(getattr(self, field.name)[chosen] for field in fields))

    def visibility(self, schema: KeypointSchema) -> np.ndarray:
        """Return int32 [N, K]: 1 for the points of each picture's category, else -1."""
        return np.where(category_points(self.categories, schema), 1, -1).astype(np.int32)

    def uncertainty(self, schema: KeypointSchema) -> np.ndarray:
        """Return how little the network knows of each picture: float64 [N], in [0, 1].

        Half of it is the disagreement of the two looks, in sizes of the predicted garment and 1 at
        most; half of it what the peaks of the heat maps lack to 1; the mean over the points.
        """
        values = np.zeros(len(self.categories))
        for category in np.unique(self.categories):
            own = np.ix_(self.categories == category, schema.indices(str(category)))
            points = self.keypoints[own].astype(np.float64)
            sizes = np.linalg.norm(points.max(axis=1) - points.min(axis=1), axis=-1)
            sizes = np.maximum(sizes, _LEAST_SIZE)[:, np.newaxis]
            differs = np.minimum(self.disagreement[own] / sizes, 1)
            unclear = 1 - np.clip(self.scores[own], 0, 1)
            values[self.categories == category] = ((differs + unclear) / 2).mean(axis=1)
        return values


def survey(run_dirs: Sequence[str], pictures: Iterable[Picture], options: PredictOptions) -> Survey:
    """Look at pictures with the networks of a run.

    Args:
        pictures: In any order; few are held at a time.
        options: Of the prediction; the flip test is always made.

    Raises:
        UserError: There is no picture, or no network for one.
    """
    if len(run_dirs) != 1:
        raise UserError(f'{len(run_dirs)} runs: features are of one network; give one run')
    options = dataclasses.replace(options, flip_test=True)
    rows: list[dict] = []
    with _Networks(run_dirs, options) as networks:
        held: list[Picture] = []
        for picture in pictures:
            held.append(picture)
            if len(held) == _HELD:
                rows += networks.look(held)
                held = []
        rows += networks.look(held)
    if not rows:
        raise UserError('no picture to look at')
    names = [field.name for field in dataclasses.fields(Survey)]
    columns = {name: [row[name] for row in rows] for name in names}
    return Survey(
        np.array(columns.pop('image_ids'), object),
        np.array(columns.pop('categories')),
        *map(np.stack, columns.values()),
    )


class _Networks:
    """The networks of a run, opened when they are first needed."""

    def __init__(self, run_dirs: Sequence[str], options: PredictOptions):
        self._run_dirs, self._options = run_dirs, options
        self._scratch = tempfile.TemporaryDirectory()  # of a mean of checkpoints
        self._loaded: dict[str, fusion.TrainedNetwork] = {}
        self._warm: dict[str, WarmNetwork] = {}

    def look(self, pictures: Sequence[Picture]) -> Iterator[dict]:
        """Yield a row for each picture, in their order; the attributes of Survey."""
        found: dict[int, dict] = {}
        for category in dict.fromkeys(picture.category for picture in pictures):
            rows = [row for row, one in enumerate(pictures) if one.category == category]
            own = [pictures[row] for row in rows]
            network, warm = self._of(category)
            crops = 'crop_box' in network.experiment.data.eval_ops
            boxes = [one.box for one in own] if crops else None
            answers = warm.rows([one.pixels for one in own], boxes)
            for row, picture, answer in zip(rows, own, answers):
                found[row] = _row(picture, answer, network)
        return (found[row] for row in range(len(pictures)))

    def _of(self, category: str) -> tuple[fusion.TrainedNetwork, WarmNetwork]:
        if category not in self._loaded:
            ((networks, _),) = fusion.trained_networks(
                self._run_dirs, [category], self._options, self._scratch.name
            )
            self._loaded[category] = networks[0]
        network = self._loaded[category]
        if network.folder not in self._warm:
            self._warm[network.folder] = WarmNetwork(network, self._options, None, _looked_at)
        return network, self._warm[network.folder]

    def __enter__(self) -> _Networks:
        return self

    def __exit__(self, *error) -> None:
        for warm in self._warm.values():
            warm.close()
        self._scratch.cleanup()


def _row(picture: Picture, answer: dict, network: fusion.TrainedNetwork) -> dict:
    """Return the attributes of Survey of one picture; points are those of the full schema."""
    count = network.full_schema.num_keypoints
    row = {
        'image_ids': picture.image_id,
        'categories': picture.category,
        'image_sizes': np.array(picture.pixels.shape[:2]),
        'features': answer['features'],
    }
    for name in ('keypoints', 'scores', 'disagreement'):
        values = np.zeros([count, *answer[name].shape[1:]], np.float32)
        values[network.columns] = answer[name]
        row[name] = values
    return row


def _looked_at(
    task, network, images: tf.Tensor, to_view: tf.Tensor, category: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Predict a batch of views, as model_fn.predicted does, with doubts and features; what they
    show does not matter.

    Returns:
        'keypoints' [B, K, 2], original px; 'scores' [B, K]; 'disagreement' [B, K], px; 'features'
        [B, D].
    """
    del category
    maps, _ = views_to_points.look(
        network.outputs, images, task.schema.flip_permutation, task.experiment.loss, task.options
    )
    points, scores = views_to_points.points_of_views(maps, to_view, task.codec, task.options.fuse)
    each, _ = views_to_points.each_decoded(maps, to_view, task.codec)
    *_, deepest = network.features(images[:, 0], False).values()
    return {
        'keypoints': points,
        'scores': scores,
        'disagreement': tf.norm(each[:, 0] - each[:, images.shape[1]], axis=-1),
        'features': tf.cast(tf.reduce_mean(deepest, axis=[1, 2]), tf.float32),
    }
