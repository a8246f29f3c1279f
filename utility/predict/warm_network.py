"""A network in a graph and a session of its own, which are made once and kept."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nets import precision
from preprocessing.ops import op_string
from utility.checkpoints import variables
from utility.command_line.imports import uncollected
from utility.losses import attributes
from utility.predict.fusion import TrainedNetwork
from utility.predict.model_fn import PredictTask, predicted
from utility.predict.predictor import pass_ops
from utility.predict.views_to_points import PredictOptions

v1 = tf.compat.v1


class _Look(NamedTuple):
    """Views of an image and what makes them."""

    session: v1.Session
    image: tf.Tensor
    box: tf.Tensor
    views: tuple[tf.Tensor, tf.Tensor]

    def of(self, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.session.run(self.views, {self.image: image, self.box: box})


class WarmNetwork:
    """From pixels to points, or to heat maps to be averaged with those of other networks.

    Threads may share it: a session runs for several at a time.

    Args:
        network: With its checkpoint.
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
        task = PredictTask(experiment, network.schema, options, heatmap_size, network.scalings)
        self._config = v1.ConfigProto()
        precision.apply(options.compute, self._config)
        self._lock = threading.Lock()
        self._looks: dict[bool, _Look] = {}
        with uncollected(), tf.Graph().as_default() as graph:
            self._views_in = [
                v1.placeholder(part.dtype, [None, *part.shape]) for part in self._look(False).views
            ]
            built = attributes.network_of(experiment, network.schema, options.compute.precision)
            self._category = v1.placeholder(tf.string, [None])
            self._answers = answer(task, built, *self._views_in, self._category)
            weights = v1.global_variables()
            variables.check_fit(network.checkpoint, weights)
            restored = variables.restore(network.checkpoint, weights)
            self._session = v1.Session(graph=graph, config=self._config)
            graph.finalize()
            self._session.run(restored)

    def _look(self, is_second: bool) -> _Look:
        """Return what makes views of an image; that of a second pass is seldom needed."""
        with self._lock:
            if is_second not in self._looks:
                # A graph of its own: what is run of a graph waits for all of it to be gone through.
                with uncollected(), tf.Graph().as_default() as graph:
                    image = v1.placeholder(tf.uint8, [None, None, 3])
                    box = v1.placeholder(tf.float32, [4])
                    views = self._views(is_second, image, box)
                    session = v1.Session(graph=graph, config=self._config)
                    graph.finalize()
                self._looks[is_second] = _Look(session, image, box, views)
            return self._looks[is_second]

    def _views(self, is_second: bool, image, box) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the views of an image: uint8 [V, H, W, 3], and image -> view, [V, 3, 3]."""
        schema = self._network.schema
        example = {
            'encoded': image,
            'image_size': tf.shape(image)[:2],
            'keypoints': tf.zeros([schema.num_keypoints, 2]),
            'visibility': tf.fill([schema.num_keypoints], -1),
            'box': box,
        }
        ops = pass_ops(self._network.experiment, is_second)
        parts = []
        for number, view in enumerate(self._options.views.op_strings(ops)):
            seed = tf.constant([number, 0])
            framed = op_string.framed(view, schema, example, seed)
            picture = op_string.sample_crop(op_string.make_painter(view), framed, seed)
            parts.append((picture, framed['to_crop']))
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
        look = self._look(boxes is not None)
        boxes = itertools.repeat(np.zeros(4)) if boxes is None else boxes
        rows = zip(images, boxes, itertools.repeat(None) if categories is None else categories)
        while batch := list(itertools.islice(rows, self._options.batch_size)):
            parts = [look.of(image, box) for image, box, _ in batch]
            feeds = {place: np.stack(part) for place, part in zip(self._views_in, zip(*parts))}
            feeds[self._category] = [category or '' for *_, category in batch]
            answers = self._session.run(self._answers, feeds)
            for row in range(len(batch)):
                told = {'image_id': b'', 'category': b'', 'image_size': batch[row][0].shape[:2]}
                yield {**told, **{name: values[row] for name, values in answers.items()}}

    def close(self) -> None:
        """Give back the memory."""
        for look in self._looks.values():
            look.session.close()
        self._session.close()
