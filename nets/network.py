"""Networks: a backbone, a head, and the standardization that belongs to their weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from config import NetworkConfig, Registry, UserError, check, one_of
from nets.backbones import BACKBONES
from nets.backbones.registry import check_multiples, renamed_options
from nets.heads import HEADS
from nets.heads.attributes import (
    NO_ATTRIBUTES,
    AttributeHead,
    AttributeLogits,
    AttributeSizes,
)
from nets.norms import Mode, Normalization
from nets.precision import PRECISIONS


class Outputs(NamedTuple):
    """What a network says of a batch.

    Attributes:
        heatmaps: float32 [B, h, w, K] each, coarse to final; h and w are config.map_size.
        attributes: Of the pictures, as far as the network was built to tell them.
    """

    heatmaps: list[tf.Tensor]
    attributes: AttributeLogits


class Network(tf.Module):
    """From pictures to heat maps; made by build_network. Its variables exist after a first call."""

    def __init__(
        self,
        config: NetworkConfig,
        num_keypoints: int,
        dtype: tf.DType,
        attributes: AttributeSizes = NO_ATTRIBUTES,
    ):
        super().__init__()
        self.config = config
        self.num_keypoints = num_keypoints
        self.dtype = dtype
        self.norm, self.head_norm = (
            Normalization(kind, config.norm_groups) for kind in (config.norm, config.norm_of_head)
        )
        arguments = (num_keypoints, tuple(config.map_size))
        options = renamed_options(config.backbone_options)
        self.backbone = _make(BACKBONES, config.backbone, 'backbone_options', options)
        self.head = _make(HEADS, config.head, 'head_options', config.head_options, *arguments)
        self.attribute_head = AttributeHead(attributes) if any(attributes) else None

    def __call__(
        self, images: tf.Tensor, training: bool, remembers: bool = True
    ) -> list[tf.Tensor]:
        """Return the heat maps of pictures: see outputs."""
        return self.outputs(images, training, remembers).heatmaps

    def outputs(self, images: tf.Tensor, training: bool, remembers: bool = True) -> Outputs:
        """Return what the network says of pictures, and of nothing besides them.

        Args:
            images: [B, H, W, 3] RGB in 0..255, integer or float; H and W are config.image_size.
            training: Whether batch norm uses, and learns from, the statistics of this batch.
            remembers: As of nets.norms.Mode.

        Raises:
            UserError: The pictures have another size, the backbone cannot divide it, or the head
                cannot give the size of the heat maps.
        """
        features = self.features(images, training, remembers)
        outputs = self.head(features, Mode(training, self.head_norm, remembers))
        for output in outputs:
            self._check_output(output)
        heatmaps = [tf.cast(output, tf.float32) for output in outputs]
        if self.attribute_head is None:
            return Outputs(heatmaps, AttributeLogits())
        return Outputs(heatmaps, self.attribute_head(features, heatmaps[-1]))

    def features(
        self, images: tf.Tensor, training: bool, remembers: bool = True
    ) -> dict[str, tf.Tensor]:
        """Return what the backbone gives of pictures, [B, h, w, C] each; as of __call__."""
        images = self._standardise(tf.convert_to_tensor(images))
        mode = Mode(training, self.norm, remembers)
        features = self.backbone(tf.cast(images, self.dtype), mode)
        _check_division(self.config, features)
        return features

    def _standardise(self, images: tf.Tensor) -> tf.Tensor:
        expected = [None, *self.config.image_size, 3]
        if not images.shape.is_compatible_with(expected):
            raise UserError(
                f'images of shape {images.shape}: '
                f'network.image_size={tuple(self.config.image_size)} needs {expected}'
            )
        images = tf.cast(tf.ensure_shape(images, expected), tf.float32)
        return (images - self.config.mean) / self.config.std

    def _check_output(self, output: tf.Tensor) -> None:
        expected = [*self.config.map_size, self.num_keypoints]
        if output.shape[1:] != expected:
            raise ValueError(
                f'head {self.config.head!r} broke its contract: '
                f'heat maps of shape {output.shape} instead of {[None, *expected]}'
            )


def build_network(
    config: NetworkConfig,
    num_keypoints: int,
    dtype: tf.DType | str = 'float32',
    attributes: AttributeSizes = NO_ATTRIBUTES,
) -> Network:
    """Put the backbone and head that `config` names together.

    Args:
        config: Names, sizes, options and standardization.
        num_keypoints: K; of a loss that needs several maps a point, that many times as many.
        dtype: What the network computes in, one of PRECISIONS; weights and heat maps are
            float32 in any case.
        attributes: What else it tells of a picture; by default nothing.

    Raises:
        UserError: A name, an option or its type, or the dtype is not known.
    """
    dtype = tf.as_dtype(dtype)
    check('', 'dtype', dtype.name, *one_of(PRECISIONS))
    return Network(config, num_keypoints, dtype, attributes)


def num_parameters(module: tf.Module) -> int:
    """Return the number of trainable parameters; of a network that has been called once."""
    if not module.variables:
        raise ValueError('a network has no variables before its first call')
    return sum(variable.shape.num_elements() for variable in module.trainable_variables)


def _make(
    registry: Registry, name: str, field: str, options: Mapping[str, Any], *arguments: Any
) -> tf.Module:
    """Call a registered factory with the arguments and options; `field`: where these are set."""
    factory = registry.get(name)
    parameters = list(inspect.signature(factory).parameters.values())[len(arguments) :]
    defaults = {parameter.name: parameter.default for parameter in parameters}
    for option, value in options.items():
        _check_option(f'network.{field}: {registry.kind} {name!r}', defaults, option, value)
    return factory(*arguments, **options)


def _check_option(owner: str, defaults: Mapping[str, Any], option: str, value: Any) -> None:
    if option not in defaults:
        raise UserError(f'{owner} has no option {option!r}; it has: {", ".join(defaults)}')
    kind = type(defaults[option])
    allowed = {float: (int, float), tuple: (tuple, list)}.get(kind, (kind,))
    if defaults[option] is not None:
        type_named = f'of type {kind.__name__}'
        check(f'{owner}: ', option, value, type_named, lambda value: type(value) in allowed)


def _check_division(config: NetworkConfig, features: Mapping[str, tf.Tensor]) -> None:
    """Refuse pictures that are not a whole number of cells at every stride of the backbone."""
    size = tuple(config.image_size)
    stride = 1
    for feature in features.values():
        for side, cells in zip(size, feature.shape[1:3]):
            pixels = -(-side // cells)
            stride = max(stride, 2 ** (pixels - 1).bit_length())
    check_multiples(size, stride, f'backbone {config.backbone!r}')
