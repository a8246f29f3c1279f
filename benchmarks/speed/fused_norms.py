"""Which norms of a network TensorFlow has folded into convolutions, in the graph that it runs."""

from __future__ import annotations

import tensorflow as tf

from config import NetworkConfig
from nets import build_network

v1 = tf.compat.v1

_NORM = 'FusedBatchNorm'


def count(config: NetworkConfig, num_keypoints: int) -> tuple[int, list[str]]:
    """Return the number of batch norms of a network, and the paths of those that run on their own.

    Args:
        config: Of the network, which is called for inference with weights of its own making.
    """
    with tf.Graph().as_default() as graph, v1.Session() as session:
        images = v1.placeholder_with_default(tf.zeros([1, *config.image_size, 3]), None)
        images.set_shape([None, *config.image_size, 3])
        outputs = build_network(config, num_keypoints)(images, False)[-1]
        session.run(v1.global_variables_initializer())
        run_options, metadata = v1.RunOptions(output_partition_graphs=True), v1.RunMetadata()
        session.run(outputs, options=run_options, run_metadata=metadata)
    total = sum(operation.type.startswith(_NORM) for operation in graph.get_operations())
    nodes = [node for part in metadata.partition_graphs for node in part.node]
    # Fused ones are called FusedConv2D and the like, with the norm as one of their attributes.
    unfolded = {node.name.split(f'/{_NORM}')[0] for node in nodes if _NORM in node.op}
    return total, sorted(unfolded)
