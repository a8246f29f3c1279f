"""A network in a graph and a session of its own, which are made once and kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from nets import precision
from preprocessing.ops import op_string
from utility.checkpoints import variables
from utility.losses import attributes
from utility.predict.fusion import TrainedNetwork
from utility.predict.model_fn import PredictTask, predicted
from utility.predict.predictor import pass_ops
from utility.predict.views_to_points import PredictOptions

v1 = tf.compat.v1


class WarmNetwork:
    """From pixels to points, or to heat maps to be averaged with those of other networks.

    Threads may share it: a session runs for several at a time.

    Args:
        network: With its checkpoint.
        options: Of the prediction.
        heatmap_size: As of PredictTask.
        answer: What is asked of a batch of views and its categories; as model_fn.predicted.

    Raises:
        UserError: The checkpoint is of another network.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        options: PredictOptions,
        heatmap_size,
        answer: Callable[..., dict[str, tf.Tensor]] = predicted,
    ):
        self._network, self._options = network, options
        experiment = network.experiment
        own = (experiment, network.schema, options, heatmap_size, options.compute)
        task = PredictTask(*own, network.scalings)
        config = v1.ConfigProto()
        precision.apply(options.compute, config)
        with tf.Graph().as_default() as graph:
            self._image = v1.placeholder(tf.uint8, [None, None, 3])
            self._box = v1.placeholder(tf.float32, [4])
            self._looks = [self._views(is_second) for is_second in (False, True)]
            self._views_in = [
                v1.placeholder(part.dtype, [None, *part.shape]) for part in self._looks[0]
            ]
            built = attributes.network_of(experiment, network.schema, options.compute.precision)
            self._category = v1.placeholder(tf.string, [None])
            self._answers = answer(task, built, *self._views_in, self._category)
            weights = v1.global_variables()
            variables.check_fit(network.checkpoint, weights)
            saver = v1.train.Saver(weights)
            self._session = v1.Session(graph=graph, config=config)
            graph.finalize()
            saver.restore(self._session, network.checkpoint)

    def _views(self, is_second: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the views of the image: uint8 [V, H, W, 3], and float32 [V, 3, 3],
        image -> view.
        """
        schema = self._network.schema
        example = {
            'encoded': self._image,
            'image_size': tf.shape(self._image)[:2],
            'keypoints': tf.zeros([schema.num_keypoints, 2]),
            'visibility': tf.fill([schema.num_keypoints], -1),
            'box': self._box,
        }
        ops = pass_ops(self._network.experiment, is_second)
        parts = []
        for number, view in enumerate(self._options.views.op_strings(ops)):
            seed = tf.constant([number, 0])
            framed = op_string.framed(view, schema, example, seed)
            image = op_string.sample_crop(op_string.make_painter(view), framed, seed)
            parts.append((image, framed['to_crop']))
        return tuple(tf.stack(part) for part in zip(*parts))

    def rows(
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[np.ndarray] | None = None,
        categories: Sequence[str | None] | None = None,
    ) -> Iterator[dict]:
        """Yield what fusion.together needs of each image, batch by batch.

        Args:
            images: uint8 [H, W, 3] each.
            boxes: float32 [4] px each, to crop them to in the second pass; None: the first pass.
            categories: What they show, or None each: what the network tells; None: of all.
        """
        looks = self._looks[boxes is not None]
        boxes = itertools.repeat(np.zeros(4)) if boxes is None else boxes
        rows = zip(images, boxes, itertools.repeat(None) if categories is None else categories)
        while batch := list(itertools.islice(rows, self._options.batch_size)):
            parts = [
                self._session.run(looks, {self._image: image, self._box: box})
                for image, box, _ in batch
            ]
            feeds = {place: np.stack(part) for place, part in zip(self._views_in, zip(*parts))}
            feeds[self._category] = [category or '' for *_, category in batch]
            answers = self._session.run(self._answers, feeds)
            for row in range(len(batch)):
                told = {'image_id': b'', 'category': b'', 'image_size': batch[row][0].shape[:2]}
                yield {**told, **{name: values[row] for name, values in answers.items()}}

    def close(self) -> None:
        """Give back the memory."""
        self._session.close()
