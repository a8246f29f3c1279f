"""Starting from another run's weights: what fits is taken, what does not is told."""

import numpy as np
import pytest
import tensorflow as tf

from utility import checkpoints


def _save(path, values):
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(values),
        shape_and_slices=[''] * len(values),
        tensors=[tf.constant(v) for v in values.values()],
    )
    return str(path)


@pytest.fixture
def saved(tmp_path):
    return _save(
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


def test_everything_fits(saved):
    with tf.Graph().as_default():
        report = checkpoints.plan_warm_start(saved, _variables())
    assert (report.coverage, report.missing, report.unexpected) == (1.0, (), ())


def test_statistics_are_restored_and_other_keypoints_start_afresh(saved):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = _variables(keypoints=4)
        report = checkpoints.plan_warm_start(saved, variables)
        checkpoints.apply_warm_start(report, variables)
        session.run(tf.compat.v1.global_variables_initializer())
        kernel, mean, heatmaps = session.run(variables)
    assert report.mismatched == ('head/heatmaps/kernel',)
    assert (kernel == 2).all() and (mean == 5).all() and (heatmaps == 0).all()


def test_a_partial_checkpoint_needs_consent(saved):
    with tf.Graph().as_default():
        variables = _variables(extra=[('backbone/more/kernel', [2])])
        with pytest.raises(ValueError, match='backbone/more/kernel.*allow_partial_init'):
            checkpoints.plan_warm_start(saved, variables)
        report = checkpoints.plan_warm_start(saved, variables, allow_partial=True)
    assert report.missing == ('backbone/more/kernel',)


def test_nothing_in_common_is_always_an_error(tmp_path):
    path = _save(tmp_path / 'other', {'backbone/else': np.zeros([2], np.float32)})
    with tf.Graph().as_default(), pytest.raises(ValueError, match='nothing'):
        checkpoints.plan_warm_start(path, _variables(), allow_partial=True)


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


def test_list_variables(saved, capsys):
    checkpoints.main([saved])
    printed = capsys.readouterr().out
    assert 'backbone/stem/kernel ' in printed
    assert '5 tensors; 112 numbers of the network' in printed
