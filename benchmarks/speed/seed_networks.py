"""The training step of tf.fashionAI, written anew from what it does, to compare ours with.

HiKapok's tf.fashionAI (github.com/HiKapok/tf.fashionAI) trains its Cascaded Pyramid Networks with
TF 1's Estimator. Followed are, in its files and by the names of its variable scopes:

- net/cpn.py: `backbone` on ResNet-50, whose stem has neither norm nor ReLU; `heatmaps` are its
  feature_pyramid and global_net, the same for all of its CPNs.
- net/seresnet_cpn.py: `backbone` with groups, SE-ResNeXt-50 32x4d; a grouped convolution is split,
  one for each of the 32 groups, and concatenated.
- preprocessing: `draw`, the target of a point by a py_func, in a map_fn over all points.
- train_cpn_onebyone.py: `loss`, targets of a peak of 255 that are blurred for the coarse outputs,
  maps compared in NCHW, OHKM over the half of the points; `training_step`, momentum and a decay
  that spares what is called batch_normalization.

Its flag --data_format is channels_first by default, so that it transposes around each resize;
channels_last is the layout that a CPU computes best. Strides follow an explicit padding; resizes
are legacy bilinear ones, of all channels before the 1x1 convolutions. Left out are the exchange of
red and blue before SE-ResNeXt, summaries and metric, which could only make it slower.
Parameters: 27,085,248 on resnet50, 29,088,240 on seresnext50, for 24 keypoints, as there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

_MOMENTUM, _EPSILON = 0.9, 1e-5  # of batch norm; the momentum of the update, too
_LEARNING_RATE = 1e-4
_CHANNELS = 256  # of the pyramid
_REDUCTION = 16  # of squeeze and excitation
_DEPTHS = (3, 4, 6, 3)
_TARGET_SCALE = 255.0
_BLURS = (1.0, 1.37, 1.73, 2.4)  # standard deviations, cells, coarse to fine
_WEIGHT_DECAY = 1e-5
_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Layers:
    """Layers over maps in NCHW or NHWC.

    Args:
        channels_first: Which of them.
    """

    def __init__(self, channels_first: bool):
        self.format = 'NCHW' if channels_first else 'NHWC'
        self.channels, self.cells = (1, [2, 3]) if channels_first else (3, [1, 2])

    def size(self, inputs) -> list[int]:
        """Return (height, width)."""
        return [inputs.shape[axis] for axis in self.cells]

    def convolution(self, inputs, filters: int, size=1, stride=1, groups=1, bias=False):
        """Convolve to `filters` channels and 1 / stride of the sides; Glorot's initial weights."""
        padding, axis = 'SAME', self.channels
        if stride > 1:
            margins = [[0, 0]] * 4
            for side in self.cells:
                margins[side] = [(size - 1) // 2] * 2
            inputs, padding = tf.pad(inputs, margins), 'VALID'
        with v1.variable_scope(None, 'conv2d'):
            shape = [size, size, inputs.shape[axis] // groups, filters]
            kernel = v1.get_variable('kernel', shape, initializer=v1.glorot_uniform_initializer())
            parts = zip(tf.split(inputs, groups, axis=axis), tf.split(kernel, groups, axis=3))
            convolved = [
                tf.nn.conv2d(part, taps, stride, padding, self.format) for part, taps in parts
            ]
            outputs = convolved[0] if groups == 1 else tf.concat(convolved, axis=axis)
            if not bias:
                return outputs
            zeros = v1.zeros_initializer()
            biases = v1.get_variable('bias', [filters], initializer=zeros)
            return tf.nn.bias_add(outputs, biases, self.format)

    def batch_norm(self, inputs, activation: Callable = tf.nn.relu):
        """Return fused batch norm of a training, its moving statistics in UPDATE_OPS."""
        with v1.variable_scope(None, 'batch_normalization'):
            make = functools.partial(v1.get_variable, shape=[inputs.shape[self.channels]])
            ones, zeros = v1.ones_initializer(), v1.zeros_initializer()
            gamma, beta = make('gamma', initializer=ones), make('beta', initializer=zeros)
            moving = [
                make('moving_mean', initializer=zeros, trainable=False),
                make('moving_variance', initializer=ones, trainable=False),
            ]
            outputs, *batch = v1.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=_EPSILON, data_format=self.format
            )
            for variable, value in zip(moving, batch):
                update = variable.assign_sub((variable - value) * (1 - _MOMENTUM))
                v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
            return activation(outputs)

    def resize(self, inputs, size: Sequence[int]):
        """Resize bilinearly in the legacy way: a cell is where its corner is, not its center."""
        if self.format == 'NHWC':
            return tf.raw_ops.ResizeBilinear(images=inputs, size=list(size))
        outputs = tf.raw_ops.ResizeBilinear(images=tf.transpose(inputs, _TO_LAST), size=list(size))
        return tf.transpose(outputs, _TO_FIRST)

    def bottleneck(self, inputs, width: int, filters: int, stride=1, groups=1, project=False):
        """Return 1x1, 3x3, 1x1 and a sum; with groups SE-ResNeXt's, which ends in an excitation."""
        convolution, batch_norm, shortcut = self.convolution, self.batch_norm, inputs
        if project:
            shortcut = batch_norm(convolution(inputs, filters, stride=stride), tf.identity)
        outputs = batch_norm(convolution(inputs, width))
        outputs = batch_norm(convolution(outputs, width, 3, stride, groups))
        outputs = batch_norm(convolution(outputs, filters), tf.identity)
        if groups > 1:
            mean = tf.reduce_mean(outputs, self.cells, keepdims=True)
            squeezed = tf.nn.relu(convolution(mean, filters // _REDUCTION, bias=True))
            outputs *= tf.sigmoid(convolution(squeezed, filters, bias=True))
        return tf.nn.relu(outputs + shortcut)

    def backbone(self, images, groups: int = 1) -> list:
        """Return C2, C3, C4 and C5 of ResNet-50, or with groups of SE-ResNeXt-50 32x4d."""
        outputs = self.convolution(images, 64, 7, stride=2)
        if groups > 1:  # the ResNet there has neither norm nor ReLU in its stem
            outputs = self.batch_norm(outputs)
        outputs = tf.nn.max_pool2d(outputs, 3, 2, 'SAME', self.format)
        levels = []
        for stage, depth in enumerate(_DEPTHS):
            width = (64 if groups == 1 else 128) << stage
            for block in range(depth):
                stride, project = 2 if stage and not block else 1, not block
                outputs = self.bottleneck(outputs, width, 256 << stage, stride, groups, project)
            levels.append(outputs)
        return levels

    def heatmaps(self, levels: Sequence, num_keypoints: int, size: Sequence[int]) -> list:
        """Return heat maps of the levels, coarse to fine, and the refined ones: [B, K, *size]."""
        convolution, above, outputs, refined = self.convolution, None, [], []
        for number, level in enumerate(reversed(levels)):
            lateral = tf.nn.relu(convolution(level, _CHANNELS))
            if above is not None:
                lateral += convolution(self.resize(above, self.size(lateral)), _CHANNELS)
            above = lateral
            maps = convolution(tf.nn.relu(convolution(lateral, _CHANNELS)), num_keypoints, 3)
            outputs.append(self.resize(maps, size))
            for _ in range(len(levels) - 1 - number):
                lateral = self.bottleneck(lateral, _CHANNELS // 2, _CHANNELS)
            refined.append(self.resize(lateral, size))
        joined = tf.concat(refined, axis=self.channels)
        joined = self.bottleneck(joined, _CHANNELS // 2, _CHANNELS, project=True)
        return [*outputs, convolution(joined, num_keypoints, 3)]


def draw(point: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a Gaussian with a sigma of a cell in a window of 7 x 7 around a point (x, y)."""
    height, width = size
    target = np.zeros([height, width], np.float32)
    x, y = (int(round(float(value))) for value in point)
    if x < 1 or y < 1:
        return target
    columns = np.arange(max(0, x - 3), min(width, x + 4))
    rows = np.arange(max(0, y - 3), min(height, y + 4))
    squares = (columns[np.newaxis] - x) ** 2 + (rows[:, np.newaxis] - y) ** 2
    target[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = np.exp(-squares / 2.0)
    return target


def targets(points, size: Sequence[int]):
    """Return [B, K, 2] cells -> [B, K, *size]; each map by a call of Python."""

    def draw_one(point):
        target = tf.numpy_function(lambda value: draw(value, size), [point], tf.float32)
        return tf.ensure_shape(target, size)

    def draw_all(row):
        return tf.map_fn(draw_one, row, fn_output_signature=tf.TensorSpec(size, tf.float32))

    spec = tf.TensorSpec([points.shape[1], *size], tf.float32)
    return tf.map_fn(draw_all, points, fn_output_signature=spec)


def _blurred(maps, sigma: float):
    """Return [B, K, h, w], each map convolved with a Gaussian whose sum is not 1."""
    size, channels = int(6 * sigma + 1), maps.shape[1]
    offsets = np.arange(size) - size / 2
    kernel = np.exp(-(offsets[np.newaxis] ** 2 + offsets[:, np.newaxis] ** 2) / (2 * sigma**2))
    kernel = np.tile(kernel[..., np.newaxis, np.newaxis], [1, 1, channels, 1]).astype(np.float32)
    transposed = tf.transpose(maps, _TO_LAST)
    blurred = tf.nn.depthwise_conv2d(transposed, kernel, [1, 1, 1, 1], 'SAME')
    return tf.transpose(blurred, _TO_FIRST)


def loss(outputs: Sequence, drawn, visibility):
    """Return the mean squared errors of all outputs, of the last one over its hard half.

    Args:
        outputs: [B, K, h, w], coarse to fine, the refined one last.
        drawn: [B, K, h, w] with peaks of 1.
        visibility: int [B, K].
    """
    counts = tf.cast(visibility > 0, tf.float32)[:, :, tf.newaxis, tf.newaxis]
    drawn *= _TARGET_SCALE
    blurred_targets = [*(_blurred(drawn, sigma) for sigma in _BLURS), drawn]
    total = 0.0
    for number, (output, target) in enumerate(zip(outputs, blurred_targets)):
        squares = tf.math.squared_difference(output * counts, target * counts)
        if number < len(outputs) - 1:
            total += 0.5 * tf.reduce_mean(squares)
        else:
            errors = tf.reduce_mean(squares, [2, 3])
            total += tf.reduce_mean(tf.math.top_k(errors, errors.shape[1] // 2).values)
    return total


def training_step(images, drawn, visibility, groups: int = 1, channels_first: bool = True) -> list:
    """Return what one step fetches: the operation of the update and the loss, float32 [].

    Args:
        images: float32 [B, H, W, 3], standardized.
        drawn: Targets, float32 [B, K, h, w].
        visibility: int [B, K].
        groups: 1: ResNet-50, 32: SE-ResNeXt-50.
        channels_first: How the network has its maps.
    """
    layers = Layers(channels_first)
    images = tf.transpose(images, _TO_FIRST) if channels_first else images
    outputs = layers.heatmaps(layers.backbone(images, groups), drawn.shape[1], drawn.shape[2:])
    if not channels_first:
        outputs = [tf.transpose(output, _TO_FIRST) for output in outputs]
    variables = v1.trainable_variables()
    total = loss(outputs, drawn, visibility)
    # Batch norm of the ResNet alone is spared, because others call theirs something else.
    decays = [v for v in variables if groups > 1 or 'batch_normalization' not in v.name]
    total += _WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(variable) for variable in decays])
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        optimizer = v1.train.MomentumOptimizer(_LEARNING_RATE, _MOMENTUM)
        step = v1.train.get_or_create_global_step()
        return [optimizer.minimize(total, step, variables), total]
