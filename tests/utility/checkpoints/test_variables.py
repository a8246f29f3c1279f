"""Starting from another run's weights: what fits is taken, what does not is told."""

import numpy as np
import pytest
import tensorflow as tf

from nets.names import of_network
from tests.tiny_checkpoints import write_checkpoint
from utility.checkpoints import __main__ as list_checkpoint
from utility.checkpoints import variables as checkpoints


@pytest.fixture
def saved(tmp_path):
    return write_checkpoint(
        tmp_path / 'model.ckpt-7',
        {
            'backbone/stem/kernel': np.full([3, 4], 2.0, np.float32),
            'backbone/stem/kernel/Adam': np.zeros([3, 4], np.float32),
            'backbone/stem/norm/moving_mean': np.full([4], 5.0, np.float32),
            'head/heatmaps/kernel': np.ones([4, 24], np.float32),
            'global_step': np.int64(7),
        },
    )


def _variables(keypoints=24, extra=()):
    shapes = {
        'backbone/stem/kernel': [3, 4],
        'backbone/stem/norm/moving_mean': [4],
        'head/heatmaps/kernel': [4, keypoints],
        **dict(extra),
    }
    return [
        tf.compat.v1.get_variable(n, s, initializer=tf.compat.v1.zeros_initializer())
        for n, s in shapes.items()
    ]


def test_what_is_named_below_a_variable_or_elsewhere_is_not_the_networks():
    network = {'backbone/a/kernel', 'head/a/kernel', 'head/a/kernel_1', 'head/b/gamma'}
    slots = {f'{name}/{slot}' for name in network for slot in ('Momentum', 'Adam_1', 'vhat')}
    others = {'global_step', 'averaging/head/a/kernel', 'averaging/count', 'loss_scale/scale'}
    assert of_network(network | slots | others) == network


def test_everything_fits(saved):
    with tf.Graph().as_default():
        report = checkpoints.compare(checkpoints.own_weights(saved), _variables())
    assert (report.coverage, report.missing, report.unexpected) == (1.0, (), ())
    assert report.fills_backbone


def test_statistics_are_restored_and_other_keypoints_start_afresh(saved):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = _variables(keypoints=4)
        report = checkpoints.compare(checkpoints.own_weights(saved), variables)
        checkpoints.apply_warm_start(report, variables)
        session.run(tf.compat.v1.global_variables_initializer())
        kernel, mean, heatmaps = session.run(variables)
    assert (report.mismatched, report.lacking) == (('head/heatmaps/kernel',), ())
    assert report.fills_backbone
    assert (kernel == 2).all() and (mean == 5).all() and (heatmaps == 0).all()


def test_the_report_counts_tensors_and_parameters(saved):
    more = [('backbone/more/kernel', [2, 4]), ('head/deconv1/kernel', [8])]
    with tf.Graph().as_default():
        variables = _variables(keypoints=4, extra=more)
        report = checkpoints.compare(checkpoints.own_weights(saved), variables)
    assert report.missing == ('backbone/more/kernel', 'head/deconv1/kernel')
    assert report.lacking == report.missing
    assert not report.fills_backbone
    # 12 + 4 of the backbone's 24 and of all 48 numbers.
    assert (report.coverage, report.backbone_coverage) == (16 / 48, 16 / 24)
    assert str(report) == (
        f'{saved} (this project): 2 tensors restored, 2 missing, 1 of another shape, 0 not used; '
        '33.3 % of the parameters covered, 66.6 % of those of the backbone'
    )


@pytest.mark.parametrize(
    ('stored', 'foreign'),
    [
        ('backbone/stage1/block2/conv1/kernel', True),  # a deeper network
        ('backbone/stage1/block1/se/squeeze/kernel', True),  # another block
        ('backbone/stem/bias', True),  # another layer
        ('backbone/stage2/block1/conv1/kernel', False),  # a stage that is not built
        ('backbone/stem2/kernel', False),
        ('head/deconv1/kernel', False),
    ],
)
def test_tensors_that_tell_of_another_network(stored, foreign):
    own = {'backbone/stem/kernel': [3, 4], 'backbone/stage1/block1/conv1/kernel': [4]}
    shapes = {name: tuple(shape) for name, shape in own.items()}
    weights = checkpoints.Weights('x', 'y', {**shapes, stored: (1,)})
    with tf.Graph().as_default():
        variables = [tf.compat.v1.get_variable(n, s) for n, s in own.items()]
        report = checkpoints.compare(weights, variables)
    assert (report.unexpected, report.foreign) == ((stored,), (stored,) if foreign else ())
    assert (report.coverage, report.fills_backbone) == (1.0, not foreign)


def test_checkpoints_of_other_projects_are_not_own(tmp_path):
    path = write_checkpoint(tmp_path / 'other', {'conv2d/kernel': np.zeros([2], np.float32)})
    assert checkpoints.own_weights(path) is None


def test_only_the_weights_of_the_same_network_fit(saved):
    with tf.Graph().as_default():
        counter = tf.compat.v1.train.get_or_create_global_step()
        checkpoints.check_fit(saved, [counter, *_variables()])
    more = [('backbone/more/kernel', [2, 4]), ('backbone/stem/kernel', [3, 2])]
    message = (
        r'.*/model.ckpt-7. holds .* another network: backbone/more/kernel is \[2, 4\] in this one, '
        'but missing in the checkpoint; of 4 variables 2 have another shape and 1 are missing'
    )
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        checkpoints.check_fit(saved, _variables(keypoints=4, extra=more))


@pytest.mark.parametrize('name', ['', 'absent'])
def test_no_checkpoint(tmp_path, name):
    with pytest.raises(ValueError, match='no checkpoint'):
        checkpoints.resolve(str(tmp_path / name))


def test_a_run_names_the_folders_of_its_networks(tmp_path):
    for name in ('skirt', 'all', 'empty'):
        (tmp_path / name).mkdir()
    for name in ('skirt', 'all'):
        (tmp_path / name / 'checkpoint').touch()
    with pytest.raises(ValueError, match='no checkpoint; there is .*/all, .*/skirt$'):
        checkpoints.resolve(str(tmp_path))


def test_a_broken_checkpoint_is_told(saved, tmp_path):
    (tmp_path / 'model.ckpt-7.index').write_bytes(b'garbage')
    with pytest.raises(ValueError, match='not a readable checkpoint'):
        checkpoints.list_variables(saved)


def test_a_folder_has_a_checkpoint_or_not(saved, tmp_path):
    assert checkpoints.has_checkpoint(str(tmp_path))
    assert not checkpoints.has_checkpoint(str(tmp_path / 'absent'))
    # One in pieces is still the sign of a training.
    (tmp_path / 'model.ckpt-7.index').unlink()
    assert not checkpoints.has_checkpoint(str(tmp_path))
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-7"\n')
    assert checkpoints.has_checkpoint(str(tmp_path))


def test_list_variables(saved, capsys):
    list_checkpoint._list(saved)
    printed = capsys.readouterr().out
    assert 'backbone/stem/kernel ' in printed
    assert '5 tensors; 112 numbers of the network' in printed
