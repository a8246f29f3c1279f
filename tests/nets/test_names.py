"""What the names of variables say, and that every network's names say it."""

from __future__ import annotations

from nets import names

KERNEL = 'backbone/stage1/block2/conv1/kernel'


def test_what_hangs_below_a_variable_is_not_the_networks():
    own = {KERNEL, 'backbone/conv1/norm/gamma', 'head/heatmaps/bias'}
    slots = {f'{name}/{slot}' for name in own for slot in ('Momentum', 'Adam_1', 'Yogi/m')}
    assert names.of_network([*own, *slots, 'global_step', f'averaging/{KERNEL}']) == own


def test_the_parts_of_a_network():
    assert names.is_of_backbone(KERNEL) and not names.is_of_backbone('head/refine/conv/kernel')
    assert names.is_of_heatmaps('head/heatmaps_stack1_input2/bias')
    assert not names.is_of_heatmaps('head/refine/bias') and not names.is_of_heatmaps(KERNEL)
    assert names.is_statistic('head/norm/moving_variance') and not names.is_statistic(KERNEL)


def test_blocks():
    assert names.block_of(KERNEL) == names.block_of('x/' + KERNEL) == 'backbone/stage1/block2'
    assert names.block_of('head/Relu') == 'head' and names.block_of('loss/sum') == ''
    assert names.owner_of(KERNEL) == 'backbone/stage1/block'
    assert names.owner_of('head/deconv1/kernel') == 'head/deconv1'
