"""TensorFlow Lite: for phones and small boards."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from config import UserError
from preprocessing.files import write_bytes
from utility.export.formats import FORMATS, Format, Settings
from utility.export.graph import CATEGORY, IMAGE, ExportGraph
from utility.export.saved_model import save_functions
from utility.predict.exported import run_tflite

_FILE = 'model.tflite'
_NETWORK, _AROUND = 'network.tflite', 'around.tflite'


def _write(graph: ExportGraph, settings: Settings, folder: str) -> Sequence[str]:
    if settings.precision != 'int8':
        functions = {'image': (graph.of_image, (IMAGE, CATEGORY))}
        _convert(graph, functions, os.path.join(folder, _FILE), _stored_as(settings.precision))
        return [_FILE]
    # Decoded in integers, points would lie 1 to 3 px off: the network alone is quantized.
    crops = tf.TensorSpec([1, *graph.size, 3], tf.float32, name='crops')
    network = {'heatmaps': (lambda crops: {'heatmaps': graph.heatmaps(crops)}, (crops,))}
    _convert(graph, network, os.path.join(folder, _NETWORK), _quantized(settings))
    _convert(graph, _around(graph), os.path.join(folder, _AROUND), lambda converter: None)
    return [_NETWORK, _AROUND]


def _around(graph: ExportGraph) -> Mapping[str, tuple[Callable, tuple]]:
    """Return what is before and after the network."""
    size = [1, *graph.trained.experiment.network.map_size, graph.schema.num_keypoints]
    heatmaps = tf.TensorSpec(size, tf.float32, name='heatmaps')
    placing = tf.TensorSpec([3], tf.float32, name='placing')

    def crop(image):
        crop, place = graph.crop(image)
        return {'crops': crop[tf.newaxis], 'placing': place}

    def points(heatmaps, placing, category):
        batch = graph.points(heatmaps, placing[tf.newaxis], category[tf.newaxis])
        return {name: value[0] for name, value in batch._asdict().items()}

    return {'crop': (crop, (IMAGE,)), 'points': (points, (heatmaps, placing, CATEGORY))}


def _stored_as(precision: str) -> Callable:
    def settle(converter):
        if precision == 'float16':
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]

    return settle


def _quantized(settings: Settings) -> Callable:
    def settle(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            {'crops': crop[tf.newaxis]} for crop in settings.calibration
        )

    return settle


def _convert(graph: ExportGraph, functions, path: str, settle: Callable) -> None:
    """Write functions, signature -> function and specs, with operations of TensorFlow Lite only.

    Raises:
        UserError: There is an operation that it does not have.
    """
    with tempfile.TemporaryDirectory() as saved:
        save_functions(graph, functions, saved)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, list(functions))
        settle(converter)
        try:
            with open(os.devnull, 'w') as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
                content = converter.convert()
        except Exception as error:  # of several kinds, of which none is public
            reason = ' '.join(str(error).split())[:300]
            raise UserError(f'this network has no TensorFlow Lite form: {reason}') from error
    write_bytes(path, content)


FORMATS.register('tflite')(
    Format(_write, run_tflite.start, ('float32', 'float16', 'int8'), 'ai-edge-litert')
)
