"""SavedModel: for TensorFlow itself and for TensorFlow Serving."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from preprocessing.files import read_bytes, write_bytes
from utility.export.formats import FORMATS, Format, Settings
from utility.export.graph import CATEGORY, CATEGORY_NAMES, IMAGE, IMAGE_BYTES, ExportGraph
from utility.predict.exported import run_saved_model

# TensorFlow Serving looks for numbered versions of a model.
_FOLDER = 'saved_model/1'


def _write(graph: ExportGraph, settings: Settings, folder: str) -> Sequence[str]:
    del settings  # One precision only.
    functions = {
        'serving_default': (graph.of_bytes, (IMAGE_BYTES, CATEGORY_NAMES)),
        'image': (graph.of_image, (IMAGE, CATEGORY)),
    }
    save_functions(graph, functions, os.path.join(folder, _FOLDER))
    return [_FOLDER]


def save_functions(
    graph: ExportGraph, functions: Mapping[str, tuple[Callable, Sequence[tf.TensorSpec]]], path: str
) -> None:
    """Write functions of a graph as a SavedModel: signature -> function and its arguments."""
    signatures = {
        name: tf.function(function, autograph=False).get_concrete_function(*specs)
        for name, (function, specs) in functions.items()
    }
    owner = tf.Module()  # Of the weights alone: layers keep lists that TensorFlow cannot save.
    owner.weights = list(graph.variables)
    # Nobody trains it: the gradients of nets/convolution.py would have to be functions of graphs.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(owner, path, signatures, options)
    _forget_gradients(os.path.join(path, 'saved_model.pb'))


def _forget_gradients(path: str) -> None:
    """Take the names of gradients out of a file: TensorFlow warns of those it does not know."""
    model = saved_model_pb2.SavedModel.FromString(read_bytes(path))
    for meta in model.meta_graphs:
        functions = (function.node_def for function in meta.graph_def.library.function)
        for node in itertools.chain(meta.graph_def.node, *functions):
            node.attr.pop('_gradient_op_type', None)
    write_bytes(path, model.SerializeToString(deterministic=True), rewrites=True)


FORMATS.register('saved_model')(
    Format(_write, run_saved_model.start, ('float32',), 'tensorflow-cpu==2.15.1')
)
