"""A trained network as a graph from an image to points, without anything around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from config import UserError
from preprocessing.ops import op_string
from utility.checkpoints import snapshots, variables
from utility.codecs.heatmaps import codec_of
from utility.export.letterbox import letterbox, to_original
from utility.losses import attributes
from utility.predict import views_to_points
from utility.predict.fusion import TOLD, TrainedNetwork
from utility.predict.probabilities import likeliest, scaled
from utility.predict.views_to_points import PredictOptions

IMAGE = tf.TensorSpec([None, None, 3], tf.uint8, name='image')
# Where the network tells the category, -1 asks it to; so does the name ''.
CATEGORY = tf.TensorSpec([], tf.int32, name='category')
IMAGE_BYTES = tf.TensorSpec([None], tf.string, name='image_bytes')
_NO_MEAN, _NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # of a network that gets what is so already
CATEGORY_NAMES = tf.TensorSpec([None], tf.string, name='category')


class Points(NamedTuple):
    """What an exported file answers, for one image, or for B with a leading axis.

    Attributes:
        keypoints: float32 [K, 2], continuous px of the image.
        scores: float32 [K].
        visibility: int32 [K]: 1 for the points of the category, else -1.
    """

    keypoints: tf.Tensor
    scores: tf.Tensor
    visibility: tf.Tensor


class ExportGraph:
    """Letter-box, network, flip test, decoding and the way back, of one network.

    Args:
        network: With its checkpoint and its decoder.
        options: Of the prediction; of them the flip test, weights of outputs and smoothing.

    Raises:
        UserError: The checkpoint is of another network, or the network sees more of an image, or
            less, than a letter-box.
    """

    def __init__(self, network: TrainedNetwork, options: PredictOptions):
        experiment = network.experiment
        ops = experiment.resolved_ops(experiment.data.eval_ops)
        first, _, others = ops.partition('|')
        if first.strip().startswith('crop_box'):  # without a box it keeps the whole image
            logging.warning(
                '%s was trained on crops to boxes (%s): give the exported model such crops',
                network.folder,
                first.strip(),
            )
            ops = others
        try:
            self._fill = op_string.fill_color(ops)
        except UserError as error:
            raise UserError(
                f'{network.folder}: data.eval_ops cannot be exported: {error}'
            ) from None
        self.trained, self.options = network, options
        self.size = tuple(experiment.network.image_size)
        self.schema = network.schema
        self.categories = tuple(self.schema.categories)
        self._codec = codec_of(experiment, options.smoothing)
        standardised = dataclasses.replace(experiment.network, mean=_NO_MEAN, std=_NO_STD)
        self._network = attributes.network_of(
            dataclasses.replace(experiment, network=standardised), self.schema
        )
        self._network(tf.zeros([1, *self.size, 3]), False)
        variables.check_fit(network.checkpoint, self._network.variables)
        weights = snapshots.read_weights(network.checkpoint)
        for variable in self._network.variables:
            variable.assign(weights[variables.variable_name(variable)])

    @property
    def tells(self) -> tuple[str, ...]:
        """Names of what it gives beside the Points: 'category_probabilities' [C] and 'presence'
        [K, 3], probabilities, if the network tells them.
        """
        sizes = attributes.attribute_sizes(self.trained.experiment.loss, self.schema)
        return tuple(name for name, size in zip(TOLD, sizes) if size)

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """The weights of the network."""
        return self._network.variables

    @property
    def visibility(self) -> np.ndarray:
        """int32 [number of categories, K], see Points."""
        table = np.full([len(self.categories), self.schema.num_keypoints], -1, np.int32)
        for row, category in enumerate(self.categories):
            table[row, list(self.schema.indices(category))] = 1
        return table

    def crop(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return uint8 [H, W, 3] -> float32 [h, w, 3] in 0..255, and its place, see letterbox."""
        return letterbox(image, self.size, self._fill)

    def look(self, crops: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return float32 [B, h, w, 3] -> [B, rows, columns, K], and what `tells` names, [B, ..],
        before it is scaled.
        """
        experiment = self.trained.experiment
        permutation = self.schema.flip_permutation
        maps, told = views_to_points.look(
            self._network.outputs,
            self._standardised(crops)[:, tf.newaxis],
            permutation,
            experiment.loss,
            self.options,
        )
        whole = tf.eye(3)[tf.newaxis, tf.newaxis]  # of one view, where it lies does not matter
        return views_to_points.fused_heatmaps(maps, whole, self._codec), told

    def heatmaps(self, crops: tf.Tensor) -> tf.Tensor:
        """Return float32 [B, h, w, 3] -> [B, rows, columns, K]."""
        return self.look(crops)[0]

    def largest_activations(self, crops: tf.Tensor) -> tf.Tensor:
        """Return float32 [B, h, w, 3] -> [B, L], the largest magnitude in each of the backbone's
        maps.
        """
        maps = self._network.features(self._standardised(crops), False).values()
        return tf.stack([tf.reduce_max(tf.abs(values), axis=[1, 2, 3]) for values in maps], axis=1)

    def _standardised(self, crops: tf.Tensor) -> tf.Tensor:
        """Return what the network does to its images, over columns and channels as one axis: see
        letterbox.
        """
        network = self.trained.experiment.network
        mean, std = (
            tf.constant(np.tile(values, self.size[1]), tf.float32)
            for values in (network.mean, network.std)
        )
        rows = tf.reshape(crops, [-1, self.size[0], 3 * self.size[1]])
        return tf.reshape((rows - mean) / std, [-1, *self.size, 3])

    def points(self, heatmaps: tf.Tensor, placing: tf.Tensor, category: tf.Tensor) -> Points:
        """Return [B, rows, columns, K], places [B, 3] and int32 [B] -> the Points of B images."""
        keypoints, scores = self._codec.decode(heatmaps)
        keypoints = to_original(keypoints, placing)
        return Points(keypoints, scores, tf.gather(tf.constant(self.visibility), category))

    def of_image(self, image: tf.Tensor, category: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the signature of every format: see IMAGE, CATEGORY, Points and tells."""
        crop, placing = self.crop(image)
        batch = self._of_crops(crop[tf.newaxis], placing[tf.newaxis], category[tf.newaxis])
        return {name: value[0] for name, value in batch.items()}

    def of_bytes(self, image_bytes: tf.Tensor, category: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the signature of servers: B JPEGs, or PNGs, and the names of their categories."""
        numbers = self._numbers_of(category)
        crops, places = tf.map_fn(
            lambda data: self.crop(_decoded(data)),
            image_bytes,
            fn_output_signature=(tf.float32, tf.float32),
        )
        crops = tf.ensure_shape(crops, [None, *self.size, 3])
        return self._of_crops(crops, places, numbers)

    def _of_crops(self, crops, places, category: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the Points and what `tells` names of B crops, their places and int32 [B]."""
        heatmaps, told = self.look(crops)
        if told:
            told = scaled(told, self.trained.scalings, self.schema, category)
            category = likeliest(told, self.schema, category)
        return {**self.points(heatmaps, places, category)._asdict(), **told}

    def _numbers_of(self, names: tf.Tensor) -> tf.Tensor:
        """Return string [B] -> int32 [B]; fails, when it is run, on a name that is no category."""
        is_category = tf.equal(names[:, tf.newaxis], tf.constant(self.categories))
        is_left_out = tf.equal(names, '') & ('category_probabilities' in self.tells)
        message = f'unknown category; there are: {", ".join(self.categories)}'
        known = tf.debugging.Assert(
            tf.reduce_all(tf.reduce_any(is_category, axis=1) | is_left_out), [message, names]
        )
        with tf.control_dependencies([known]):
            numbers = tf.argmax(tf.cast(is_category, tf.int32), axis=1, output_type=tf.int32)
            return tf.where(is_left_out, -1, numbers)


def _decoded(data: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_jpeg(data, channels=3, dct_method='INTEGER_ACCURATE', fancy_upscaling=True)
    return tf.ensure_shape(image, [None, None, 3])
