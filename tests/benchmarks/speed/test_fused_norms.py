"""For inference TensorFlow folds batch norm into the convolution before it, where there is one."""

from __future__ import annotations

import pytest
import tensorflow as tf

from benchmarks.speed import fused_norms
from config import NetworkConfig

# Head -> paths of the batch norms that are left. All others follow a convolution at once.
LEFT = {
    # Levels are convolved at their own sizes, enlarged and added, and only then normalized.
    'cpn': [
        *(f'head/global/C{level}/merge/norm' for level in (2, 3, 4)),
        *(f'head/refine/join/{part}/norm' for part in ('conv1', 'shortcut')),
    ],
    # TensorFlow folds nothing into transposed convolutions.
    'dhn': [f'head/deconv{number}/norm' for number in (1, 2, 3)],
}


@pytest.mark.skipif(bool(tf.config.list_physical_devices('GPU')), reason='is so on CPUs')
@pytest.mark.parametrize('head', LEFT)
def test_batch_norm_that_follows_a_convolution_costs_nothing(head):
    config = NetworkConfig(
        backbone='resnet18',
        head=head,
        image_size=(64, 64),
        heatmap_size=(16, 16),
        backbone_options={'width': 8},
        head_options={'channels': 16},
    )
    total, left = fused_norms.count(config, 4)
    assert left == LEFT[head]
    assert total > 15 + len(left)
