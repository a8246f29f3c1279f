"""Category and presence: what an experiment asks a network to tell, its losses, probabilities."""

from __future__ import annotations

import tensorflow as tf

from config import Experiment, LossConfig
from nets import build_network
from nets.heads.attributes import AttributeLogits, AttributeSizes
from nets.network import Network
from preprocessing.schema import KeypointSchema
from utility.losses.heatmap_loss import maps_per_point
from utility.losses.ohkm import mean_over


def attribute_sizes(loss_config: LossConfig, schema: KeypointSchema) -> AttributeSizes:
    """Return what a network that is trained with this loss tells of a picture.

    Args:
        loss_config: A weight of 0 is nothing to be told.
        schema: Of the network. Where there is only one category, it is not told either.
    """
    num_categories = len(schema.categories)
    tells_category = loss_config.category_weight > 0 and num_categories > 1
    return AttributeSizes(
        num_categories if tells_category else 0,
        schema.num_keypoints if loss_config.presence_weight > 0 else 0,
    )


def network_of(
    experiment: Experiment, schema: KeypointSchema, precision: str = 'float32'
) -> Network:
    """Build the network of an experiment for the keypoints of a schema, of one category or of all.

    Args:
        precision: What it computes in, as of nets.build_network.
    """
    num_maps = schema.num_keypoints * maps_per_point(experiment.loss)
    sizes = attribute_sizes(experiment.loss, schema)
    return build_network(experiment.network, num_maps, precision, sizes)


def attribute_losses(
    logits: AttributeLogits,
    category: tf.Tensor,
    visibility: tf.Tensor,
    loss_config: LossConfig,
    schema: KeypointSchema,
) -> dict[str, tf.Tensor]:
    """Return the weighted losses of what a network tells, by name, float32 [] each.

    The presence of a point is a probability given the picture's category: points of other
    categories have no part in it. A point that the augmentation has moved out of the crop is absent
    there, as one is that the picture itself cuts off.

    Args:
        category: string [B], of the annotations.
        visibility: int32 [B, K]: 1 visible, 0 occluded, -1 absent.
        loss_config: Has the weights.
    """
    losses = {}
    if logits.category is not None:
        errors = _cross_entropy(logits.category, category_indices(category, schema))
        losses['category'] = loss_config.category_weight * tf.reduce_mean(errors)
    if logits.presence is not None:
        errors = _cross_entropy(logits.presence, tf.cast(visibility, tf.int32) + 1)
        mean = mean_over(errors, points_of(category, schema))
        losses['presence'] = loss_config.presence_weight * mean
    return losses


def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def category_indices(category: tf.Tensor, schema: KeypointSchema, other: int = 0) -> tf.Tensor:
    """Return string [B] -> int32 [B], the places in schema.categories; `other` of other names."""
    matches = tf.equal(category[:, tf.newaxis], tf.constant(list(schema.categories)))
    places = tf.argmax(tf.cast(matches, tf.int32), axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_any(matches, axis=1), places, other)


def points_of(category: tf.Tensor, schema: KeypointSchema) -> tf.Tensor:
    """Return bool [B, K], the points that belong to the categories, string [B], of pictures."""
    table = [
        [k in schema.indices(name) for k in range(schema.num_keypoints)]
        for name in schema.categories
    ]
    return tf.gather(tf.constant(table), category_indices(category, schema))


def probabilities(logits: AttributeLogits) -> dict[str, tf.Tensor]:
    """Return what a network tells as probabilities: 'category_probabilities' [B, C] and 'presence'
    [B, K, 3], as far as there are logits.
    """
    named = {'category_probabilities': logits.category, 'presence': logits.presence}
    return {name: tf.nn.softmax(own) for name, own in named.items() if own is not None}
