"""The checkpoints of a training, and what is beside them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

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


def _train(folder, steps, change=1.0):
    """Return one stretch of the training of a variable."""
    with tf.Graph().as_default():
        variable = v1.get_variable('variable', initializer=0.0, use_resource=True)
        step = v1.train.get_or_create_global_step()
        train = tf.group(variable.assign_add(change), v1.assign_add(step, 1))
        v1.add_to_collection(v1.GraphKeys.SAVERS, v1.train.Saver(defer_build=True))
        creator = v1.train.ChiefSessionCreator(checkpoint_dir=str(folder))
        before = _Before(folder)
        with v1.train.MonitoredSession(creator, [before, Saver(str(folder), every=2)]) as session:
            for _ in range(steps):
                session.run(train)
        return before.newest


def _events(folder):
    for path in folder.glob('events.*'):
        for record in tf.data.TFRecordDataset(str(path)):
            yield v1.Event.FromString(record.numpy()).WhichOneof('what')


def test_steps_are_saved_after_the_hooks_before_and_the_graph_is_kept_once(tmp_path):
    assert _train(tmp_path, 5) == ['none', '1', '2', '2', '4']
    assert _train(tmp_path, 2) == ['5', '5']
    reader = tf.train.load_checkpoint(str(tmp_path))
    assert reader.get_tensor('variable') == reader.get_tensor('global_step') == 7
    names = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in names if name.endswith(('.meta', '.pbtxt'))]
    assert sorted(n for n in names if n.endswith('.index')) == [
        f'model.ckpt-{step}.index' for step in (1, 2, 4, 5, 7)
    ]
    v1.summary.FileWriterCache.clear()
    assert list(_events(tmp_path)).count('graph_def') == 1


def test_what_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(NotFiniteError, match='step 1: .*: 1 of 1 .variable.'):
        _train(tmp_path, 3, change=np.inf)
    assert tf.train.latest_checkpoint(str(tmp_path)) is None
    _train(tmp_path, 3)
    with pytest.raises(NotFiniteError, match='step 5: .*: 1 of 1 .variable.'):
        _train(tmp_path, 3, change=np.inf)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith('-3')


def test_a_training_of_one_step_is_saved_once(tmp_path, monkeypatch):
    saved = []
    save = v1.train.Saver.save
    monkeypatch.setattr(
        v1.train.Saver,
        'save',
        lambda *arguments, **options: (
            saved.append(options['global_step']) or save(*arguments, **options)
        ),
    )
    _train(tmp_path, 1)
    assert saved == [1]
