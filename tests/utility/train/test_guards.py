"""What stops a step before it does harm, what is never saved, and what warns."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from config import OptimizerConfig
from nets import graph_variables
from preprocessing.graph_messages import NOT_FINITE, find
from utility.command_line.scripts import RunError
from utility.optim import training_step
from utility.train import guards
from utility.train.failures import explained

v1 = tf.compat.v1
IDS = ['blouse/1.jpg', "skirt/it's.jpg"]


class _Training:
    """Weights `first` and `second`, at 1, whose gradients are the numbers that it is fed."""

    def __init__(self):
        self.loss, self.first, self.second = (v1.placeholder(tf.float32, []) for _ in range(3))
        self.weights = [
            graph_variables.make(name, [], 1.0, trainable=True) for name in ('first', 'second')
        ]
        loss = self.loss + self.first * self.weights[0] + self.second * self.weights[1]
        v1.train.get_or_create_global_step()

        def check(pairs):
            return guards.stop_unless_finite(loss, tf.constant(IDS), pairs)

        config = OptimizerConfig(momentum=0.0, weight_decay=0.0)
        rate = tf.constant(0.5)
        self.op = training_step.training_step(
            loss, rate, self.weights, config, training_step.StepOptions(check)
        )

    def feed(self, loss=0.0, first=1.0, second=1.0):
        return {self.loss: loss, self.first: first, self.second: second}


@pytest.fixture
def training():
    with tf.Graph().as_default(), v1.Session() as session:
        made = _Training()
        session.run(v1.global_variables_initializer())
        made.run = lambda **values: session.run(made.op, made.feed(**values))
        made.read = lambda: session.run([*made.weights, v1.train.get_global_step()])
        made.session = session
        yield made


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'loss': np.nan}, 'the loss is nan; weights that are not finite: none; gradients that '),
        ({'loss': -np.inf}, 'the loss is -inf; '),
        ({'second': np.nan}, 'gradients that are not finite: 1 of 2 (second); '),
        ({'first': np.inf, 'second': np.nan}, 'not finite: 2 of 2 (first, second); pictures'),
    ],
)
def test_a_step_that_is_not_finite_is_stopped_before_the_weights_change(training, values, told):
    training.run(second=2.0)
    assert training.read() == [0.5, 0.0, 1]
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        training.run(**values)
    message = find(NOT_FINITE, caught.value)
    assert message.startswith('step 2: the loss is ') and told in message
    assert message.endswith("; pictures of the batch: blouse/1.jpg, skirt/it's.jpg")
    assert training.read() == [0.5, 0.0, 1]
    training.run()
    assert training.read() == [0.0, -0.5, 2]


@pytest.mark.parametrize(
    ('loss', 'gradient', 'forgives', 'is_right'),
    [(1.0, np.inf, True, True), (1.0, np.inf, False, False), (np.nan, 1.0, True, False)],
)
def test_gradients_that_will_not_be_used_may_be_anything(loss, gradient, forgives, is_right):
    with tf.Graph().as_default(), v1.Session() as session:
        v1.train.get_or_create_global_step()
        weight = v1.Variable(1.0, use_resource=True)
        pairs, forgiven = [(tf.constant(gradient), weight)], tf.constant(forgives)
        check = guards.stop_unless_finite(tf.constant(loss), tf.constant(IDS), pairs, forgiven)
        session.run(v1.global_variables_initializer())
        if is_right:
            session.run(check)
        else:
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(check)


def test_weights_that_are_not_finite_are_named(training):
    training.session.run(training.weights[1].assign(np.nan))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        training.run()
    assert 'weights that are not finite: 1 of 2 (second); ' in find(NOT_FINITE, caught.value)


def test_of_many_names_the_first_few_are_told():
    values = {f'w{i}': np.array([1.0, np.nan if i < 7 else 2.0]) for i in range(8)}
    assert guards.not_finite_values(values) == '7 of 8 (w0, w1, w2, w3, w4, ...)'
    assert not guards.not_finite_values({'w7': values['w7']})


def test_a_check_has_few_operations_for_each_weight():
    def count(num_weights):
        with tf.Graph().as_default() as graph:
            v1.train.get_or_create_global_step()
            weights = [
                graph_variables.make(f'w{i}', [3], 1.0, trainable=True) for i in range(num_weights)
            ]
            pairs = [(tf.ones([3]), weight) for weight in weights]
            before = len(graph.get_operations())
            guards.stop_unless_finite(tf.constant(1.0), tf.constant(IDS), pairs)
            return len(graph.get_operations()) - before

    assert count(9) - count(5) == 4


def test_other_errors_are_not_taken_for_a_stop():
    error = tf.errors.InvalidArgumentError(None, None, 'assertion failed: []')
    assert find(NOT_FINITE, error) is None


def test_variables_that_are_not_finite_are_not_saved(tmp_path):
    """Whatever has made them so; the checkpoint before stays."""
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        weight = v1.Variable([1.0, 1.0], name='weight', use_resource=True)
        grow = tf.group(weight.assign(weight * 1e30), step.assign_add(1))
        saver = v1.train.CheckpointSaverHook(
            str(tmp_path), save_steps=1, listeners=[guards.SaveOnlyFinite()]
        )
        message = r'step 2: variables that are not finite: 1 of 1 \(weight\)'
        with pytest.raises(guards.NotFiniteError, match=message):  # noqa: SIM117
            with v1.train.SingularMonitoredSession(hooks=[saver]) as session:
                for _ in range(3):
                    session.run(grow)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith('-1')
    assert not list(tmp_path.glob('*-2.*'))


def _warnings_of(height: float, every: int, num_steps: int, caplog) -> list[str]:
    """Return what is logged of maps of that height in a training whose targets peak at 10."""
    maps = np.full((2, 4, 4, 3), 7.0, np.float32)
    maps[1, 2, 3, 0] += height
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        advance = step.assign_add(1)
        hook = guards.FlatMaps(tf.constant(maps), 10.0, every)
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            for _ in range(num_steps):
                session.run(advance)
    return [record.message for record in caplog.records]


def test_flat_heat_maps_are_warned_of_once(caplog):
    (message,) = _warnings_of(0.005, 3, 9, caplog)
    assert message.startswith('step 3: every heat map of the batch is flat: ')
    assert 'but the targets peak at 10. Usual causes: a learning rate' in message


@pytest.mark.parametrize(('height', 'num_steps'), [(0.05, 9), (0.0, 2)])
def test_other_maps_and_steps_between_the_looks_are_not(height, num_steps, caplog):
    assert _warnings_of(height, 3, num_steps, caplog) == []


def _explain(error, tmp_path, check=lambda: None):
    (tmp_path / 'experiment.json').touch()  # the folder is still there
    with explained(str(tmp_path), check):
        raise error


def test_a_stop_is_told_with_what_was_saved_and_the_usual_causes(training, tmp_path):
    for name in ('experiment.json', 'model.ckpt-8.index'):
        (tmp_path / name).touch()
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-8"\n')
    told = r'step 1: the loss is nan.*; nothing was saved since .*/model.ckpt-8. Usual causes: a le'
    with pytest.raises(RunError, match=told), explained(str(tmp_path), lambda: None):
        training.run(loss=np.nan)
    told = 'step 9: 1 of 1; nothing was saved since .*/model.ckpt-8. Usual'
    with pytest.raises(RunError, match=told):
        _explain(guards.NotFiniteError('step 9: 1 of 1'), tmp_path)


@pytest.mark.parametrize(
    'kind', [tf.errors.DataLossError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError]
)
def test_when_records_may_be_at_fault_they_are_looked_at(tmp_path, kind):
    def check():
        raise ValueError('the file')

    with pytest.raises(ValueError, match='the file'):
        _explain(kind(None, None, 'text'), tmp_path, check)
    with pytest.raises(kind, match='text'):
        _explain(kind(None, None, 'text'), tmp_path)


def test_other_errors_stay_what_they_are(tmp_path):
    looks = []
    for error in (tf.errors.InvalidArgumentError(None, None, 'a bug'), KeyError('a bug')):
        with pytest.raises(type(error), match='a bug'):
            _explain(error, tmp_path, lambda: looks.append('records'))
    assert looks == ['records']  # which may be what was invalid
