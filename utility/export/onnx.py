"""ONNX: for ONNX Runtime, on servers, desktops and in browsers."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import tensorflow as tf

from config import UserError
from utility.export.formats import FORMATS, Format, Settings, require_package
from utility.export.graph import CATEGORY, IMAGE, ExportGraph
from utility.predict.exported import run_onnx

_OPSET = 17
_FILE = 'model.onnx'


def write(graph: ExportGraph, settings: Settings, folder: str) -> Sequence[str]:
    """Writes the file; see FORMATS."""
    path = os.path.join(folder, _FILE)
    _convert(graph, path)
    return [_FILE]


def _convert(graph: ExportGraph, path: str) -> None:
    """Writes the graph, and refuses what the converter has no operation for.

    It writes such a file all the same, under names that no runtime knows.
    """
    for package in ('onnx', 'tf2onnx'):
        require_package(package)
    import onnx
    import tf2onnx

    logging.getLogger('tf2onnx').setLevel(logging.ERROR)
    function = tf.function(graph.of_image, autograph=False)
    model, _ = tf2onnx.convert.from_function(function, [IMAGE, CATEGORY], opset=_OPSET)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise UserError(f'this network has no ONNX form: {str(error).splitlines()[0]}') from error
    onnx.save(model, path)


FORMATS.register('onnx')(Format(write, run_onnx.start, ('float32',), 'onnxruntime'))
