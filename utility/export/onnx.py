"""ONNX: for ONNX Runtime, on servers, desktops and in browsers."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from config import UserError
from utility.export.formats import FORMATS, Format, Settings, require_package
from utility.export.graph import CATEGORY, IMAGE, ExportGraph
from utility.predict.exported import run_onnx

_OPSET = 17
_FILE = 'model.onnx'
# With the rectifiers the range of a convolution is that of what is left of it; without, half of the
# steps, and more with ReLU6, are spent on what they take away.
_IN_INTEGERS = ['Conv', 'ConvTranspose', 'Relu', 'Clip']
_SMALLEST_HALF = 256  # numbers; fewer stay float32


def write(graph: ExportGraph, settings: Settings, folder: str) -> Sequence[str]:
    """Write the file; see FORMATS."""
    path = os.path.join(folder, _FILE)
    _convert(graph, path)
    if settings.precision == 'float16':
        _store_halves(path)
    if settings.precision == 'int8':
        _quantize(path, settings)
    return [_FILE]


def _convert(graph: ExportGraph, path: str) -> None:
    """Write the graph, and refuse what the converter has no operation for.

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


def _store_halves(path: str) -> None:
    """Store the weights of a file as float16; they are float32 again once it is opened."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type == TensorProto.FLOAT and values.size >= _SMALLEST_HALF:
            name = weight.name
            half = numpy_helper.from_array(values.astype(np.float16), f'{name}/half')
            weight.CopyFrom(half)
            casts.append(helper.make_node('Cast', [half.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class _Crops:
    """The crops of a calibration, as ONNX Runtime asks for them one by one."""

    def __init__(self, crops: Sequence[np.ndarray]):
        self._crops = iter(crops)

    def get_next(self):
        """Give the inputs of the file for the next crop, which its letter-box leaves as it is."""
        crop = next(self._crops, None)
        if crop is None:
            return None
        return {'image': crop.astype(np.uint8), 'category': np.array(0, np.int32)}


def _quantize(path: str, settings: Settings) -> None:
    """Quantize the convolutions of a file: computed in integers, with a scale for each channel."""
    require_package('onnxruntime')
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(_Crops, quantization.CalibrationDataReader):
        pass

    logging.disable(logging.WARNING)  # a line for each of many weights
    try:
        quant_pre_process(path, path, skip_symbolic_shape=True)
        quantization.quantize_static(
            path,
            path,
            Reader(settings.calibration),
            op_types_to_quantize=_IN_INTEGERS,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    _leave_out_known(path)


def _leave_out_known(path: str) -> None:
    """Leave out of a quantized file what runtimes find by themselves: zero points that are 0, the
    scales of biases, which are products of those of inputs and weights, and the names of tensors.
    With narrow layers they are up to a tenth of it.
    """
    import onnx

    model = onnx.load(path)
    _leave_out_zero_points(model.graph)
    _multiply_scales(model.graph)
    used = {name for node in model.graph.node for name in node.input}
    weights = [weight for weight in model.graph.initializer if weight.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    _shorten_names(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _arrays(graph) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}


def _leave_out_zero_points(graph) -> None:
    """Take them from the weights and biases that have none but 0."""
    arrays = _arrays(graph)
    for node in graph.node:
        is_stored = node.op_type == 'DequantizeLinear' and node.input[0] in arrays
        if is_stored and len(node.input) == 3 and not arrays[node.input[2]].any():
            del node.input[2]


def _multiply_scales(graph) -> None:
    """Let the scales of biases be computed when the file is opened, where they are products."""
    from onnx import helper

    arrays = _arrays(graph)
    made_by = {n.output[0]: n for n in graph.node if n.op_type == 'DequantizeLinear'}
    products = []
    for node in graph.node:
        sources = [made_by.get(name) for name in node.input]
        if node.op_type not in ('Conv', 'ConvTranspose') or len(sources) != 3 or None in sources:
            continue
        image, weights, bias = (source.input[1] for source in sources)
        if not {image, weights, bias} <= arrays.keys():
            continue
        if np.array_equal(arrays[image] * arrays[weights], arrays[bias]):
            name = f'{bias}/product'
            products.append(helper.make_node('Mul', [image, weights], [name]))
            sources[2].input[1] = name
    nodes = [*products, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _shorten_names(graph) -> None:
    """Replace the names of tensors by numbers; they are a fortieth of a small network in int8."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}

    def short(name: str) -> str:
        return names.setdefault(name, str(len(names))) if name else name  # '': an input left out

    for weight in graph.initializer:
        weight.name = short(weight.name)
    for node in graph.node:
        node.name = ''
        for places in (node.input, node.output):
            places[:] = [short(name) for name in places]
    del graph.value_info[:]  # shapes, which runtimes find by themselves


FORMATS.register('onnx')(
    Format(write, run_onnx.start, ('float32', 'float16', 'int8'), 'onnxruntime')
)
