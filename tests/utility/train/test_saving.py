"""The checkpoints of a training, and what is beside them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from utility.train import saving
from utility.train.guards import NotFiniteError
from utility.train.saving import Saver

v1 = tf.compat.v1


class _Before(v1.train.SessionRunHook):
    """Keeps which checkpoint was the newest when this hook was told of each step."""

    def __init__(self, folder):
        self._folder = str(folder)
        self.newest = []

    def after_run(self, run_context, run_values):
        newest = tf.train.latest_checkpoint(self._folder) or '-none'
        self.newest.append(newest.rsplit('-', 1)[1])


def _train(folder, steps, change=1.0, at_once=False):
    """Return which checkpoint was the newest at each step of one stretch of the training of a
    variable; its session starts at once or as those under a strategy.
    """
    with tf.Graph().as_default():
        variable = v1.get_variable('variable', initializer=0.0, use_resource=True)
        step = v1.train.get_or_create_global_step()
        train = tf.group(variable.assign_add(change), v1.assign_add(step, 1))
        if at_once:
            restores = tf.train.latest_checkpoint(str(folder)) is not None
            scaffold = saving.starting_at_once(restores, keep=4)
        else:
            scaffold = None
            v1.add_to_collection(v1.GraphKeys.SAVERS, v1.train.Saver(defer_build=True))
        creator = v1.train.ChiefSessionCreator(scaffold, checkpoint_dir=str(folder))
        hooks = [_Before(folder), Saver(str(folder), 2, scaffold)]
        with v1.train.MonitoredSession(creator, hooks) as session:
            for _ in range(steps):
                session.run(train)
        return hooks[0].newest


def _events(folder):
    for path in folder.glob('events.*'):
        for record in tf.data.TFRecordDataset(str(path)):
            yield v1.Event.FromString(record.numpy()).WhichOneof('what')


def test_steps_are_saved_after_the_hooks_before_and_the_graph_is_kept_once(tmp_path):
    assert _train(tmp_path, 5) == ['0', '0', '2', '2', '4']
    assert _train(tmp_path, 2) == ['5', '5']
    reader = tf.train.load_checkpoint(str(tmp_path))
    assert reader.get_tensor('variable') == reader.get_tensor('global_step') == 7
    names = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in names if name.endswith(('.meta', '.pbtxt'))]
    assert sorted(n for n in names if n.endswith('.index')) == [
        f'model.ckpt-{step}.index' for step in (0, 2, 4, 5, 7)
    ]
    v1.summary.FileWriterCache.clear()
    assert list(_events(tmp_path)).count('graph_def') == 1


def test_what_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(NotFiniteError, match='step 2: .*: 1 of 1 .variable.'):
        _train(tmp_path, 3, change=np.inf)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith('-0')


def test_where_a_session_starts_at_once_the_start_is_saved_when_the_first_step_is_done(tmp_path):
    assert _train(tmp_path, 5, at_once=True) == ['none', '0', '2', '2', '4']
    first = tf.train.load_checkpoint(str(tmp_path / 'model.ckpt-0'))
    assert first.get_variable_to_shape_map() == {'variable': [], 'global_step': []}
    assert first.get_tensor('variable') == first.get_tensor('global_step') == 0
    assert _train(tmp_path, 2, at_once=True) == ['5', '5']
    reader = tf.train.load_checkpoint(str(tmp_path))
    assert reader.get_tensor('variable') == reader.get_tensor('global_step') == 7
    # The start counts as one of those that are kept.
    names = sorted(path.name for path in tmp_path.glob('*.index'))
    assert names == [f'model.ckpt-{step}.index' for step in (2, 4, 5, 7)]
    v1.summary.FileWriterCache.clear()
    assert list(_events(tmp_path)).count('graph_def') == 1


def test_of_a_start_that_is_not_finite_nothing_is_saved(tmp_path):
    with pytest.raises(NotFiniteError, match='step 2: .*: 1 of 1 .variable.'):
        _train(tmp_path, 3, change=np.inf, at_once=True)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith('-0')
    with tf.Graph().as_default():
        v1.get_variable('variable', initializer=np.nan, use_resource=True)
        train = v1.assign_add(v1.train.get_or_create_global_step(), 1)
        scaffold = saving.starting_at_once(restores=False)
        hooks = [Saver(str(tmp_path / 'other'), 2, scaffold)]
        creator = v1.train.ChiefSessionCreator(scaffold)
        with pytest.raises(NotFiniteError, match='step 0: '):  # noqa: SIM117
            with v1.train.MonitoredSession(creator, hooks) as session:
                session.run(train)
