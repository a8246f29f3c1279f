"""Precision: what a machine is refused, what is computed in it and what is not, and how exactly."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from config import Experiment, LossConfig, NetworkConfig, OptimizerConfig, ScheduleConfig
from nets import build_network
from nets import precision as compute
from nets.precision import Compute
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_batches import skirts
from utility.checkpoints import step_tables
from utility.losses import heatmap_loss
from utility.optim import loss_scale
from utility.optim.schedules import Length
from utility.predict.model_fn import PredictTask, make_predict_fn
from utility.predict.views_to_points import PredictOptions
from utility.train.log import Watch
from utility.train.model_fn import Task, make_model_fn

v1 = tf.compat.v1
SIZE = 32
SKIRT = SCHEMA.subset('skirt')
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 8}, {'channels': 8}),
    loss=LossConfig(sigmas=(1.5,), ohkm=0.5),
    optimizer=OptimizerConfig(name='adam', learning_rate=3e-3, weight_decay=0.0),
    schedule=ScheduleConfig(warmup_steps=0, decay_epochs=(), decay_factors=(1.0,)),
)


@pytest.fixture
def machine(monkeypatch):
    def make(has_gpu=False, computes_bfloat16=True):
        monkeypatch.setattr(compute, 'has_gpu', lambda: has_gpu)
        monkeypatch.setattr(compute, '_computes_bfloat16', lambda: computes_bfloat16)

    return make


@pytest.mark.parametrize(
    ('asked', 'bfloat16', 'message'),
    [
        (Compute('float16'), True, '--precision=float16: needs a GPU'),
        (Compute('bfloat16'), False, '--precision=bfloat16: this CPU has no instructions'),
        (Compute(xla=True), True, '--xla: needs a GPU'),
        (Compute('bfloat16', True), True, '--xla: needs a GPU'),
        (Compute('float64'), True, "--precision='float64': must be one of float32, bfloat16"),
    ],
)
def test_what_a_cpu_cannot_do_or_only_slows_it_down_is_refused(machine, asked, bfloat16, message):
    machine(computes_bfloat16=bfloat16)
    with pytest.raises(ValueError, match=message):
        compute.check(asked)


def test_the_rest_is_not_refused(machine):
    machine(computes_bfloat16=False)
    compute.check(Compute())
    machine()
    compute.check(Compute('bfloat16'))
    machine(has_gpu=True, computes_bfloat16=False)
    for precision in compute.PRECISIONS:
        compute.check(Compute(precision, xla=True))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('flags\t: fpu avx512f avx512_bf16 sse\n', True),
        ('flags\t: fpu amx_bf16\n', True),
        ('flags\t: fpu avx512f avx512_bf16x\n', False),
        ('processor : 0\n', True),  # it does not say
    ],
)
def test_the_processor_is_asked(monkeypatch, tmp_path, text, expected):
    (tmp_path / 'cpuinfo').write_text(text)
    monkeypatch.setattr(compute.pathlib, 'Path', lambda _: tmp_path / 'cpuinfo')
    assert compute._computes_bfloat16() is expected


def test_xla_is_a_setting_of_the_session_and_off_unless_asked_for():
    settings = v1.ConfigProto(allow_soft_placement=True)
    before = settings.SerializeToString()
    compute.apply(Compute('bfloat16'), settings)
    assert settings.SerializeToString() == before
    compute.apply(Compute(xla=True), settings)
    options = settings.graph_options.optimizer_options
    assert options.global_jit_level == options.ON_1 and settings.allow_soft_placement


@pytest.mark.parametrize(
    ('mode', 'precision'),
    [('train', 'bfloat16'), ('train', 'float16'), ('eval', 'bfloat16'), ('infer', 'float16')],
)
def test_only_what_is_between_picture_and_heat_maps_is_in_low_precision(mode, precision):
    dtype = tf.as_dtype(precision)
    with tf.Graph().as_default() as graph:
        compute = Compute(precision)
        placed = tf.nest.map_structure(
            lambda value: v1.placeholder_with_default(value, value.shape), skirts(4, (SIZE, SIZE))
        )
        if mode == 'infer':
            options = PredictOptions(compute=compute)
            predict_fn = make_predict_fn(PredictTask(EXPERIMENT, SKIRT, options))
            spec = predict_fn(placed[0], None, mode)
        else:
            model_fn = make_model_fn(Task(EXPERIMENT, SKIRT, compute=compute))
            spec = model_fn(*placed, mode, types.SimpleNamespace(model_dir=''))
        operations = graph.get_operations()
    convolutions = [op for op in operations if op.type.startswith('Conv2D')]
    assert len(convolutions) >= 20
    assert {op.outputs[0].dtype for op in convolutions} == {dtype}
    variables = [op.get_attr('dtype') for op in operations if op.type == 'VarHandleOp']
    assert set(variables) <= {tf.float32, tf.int64} and tf.float32 in variables
    low = [op for op in operations if any(tensor.dtype == dtype for tensor in op.outputs)]
    outside = [op for op in low if not op.name.startswith(('backbone/', 'head/', 'gradients'))]
    # The picture on its way in; elsewhere low precision comes in nowhere.
    assert [op.type for op in outside] == ['Cast']
    results = [*(spec.predictions or {}).values(), *([spec.loss] if mode != 'infer' else [])]
    results += [value for value, _ in (spec.eval_metric_ops or {}).values()]
    assert not [tensor for tensor in results if tensor.dtype == dtype]
    assert mode == 'infer' or spec.loss.dtype == tf.float32


def _gradients(precision: str, scale: float = 1.0) -> tuple[float, np.ndarray]:
    """Return the loss of a batch, and its gradients, of a freshly initialized network."""
    tf.random.set_seed(5)
    features, labels = skirts(8, (SIZE, SIZE))
    network = build_network(EXPERIMENT.network, SKIRT.num_keypoints, precision)
    network(features['image'], True)
    with tf.GradientTape() as tape:
        outputs = network(features['image'], True)
        loss, _ = heatmap_loss.heatmap_loss(outputs, labels, EXPERIMENT.loss, (SIZE, SIZE))
        scaled = scale * loss
    gradients = tape.gradient(scaled, network.trainable_variables)
    flat = np.concatenate([np.ravel(g.numpy() / scale) for g in gradients])
    return float(loss), flat


@pytest.mark.parametrize(
    ('precision', 'scale', 'most_loss', 'most_gradient'),
    [('bfloat16', 1.0, 0.02, 0.05), ('float16', 2.0**15, 0.002, 0.01)],
)
def test_gradients_are_near_those_of_float32(precision, scale, most_loss, most_gradient):
    loss, gradients = _gradients('float32')
    rough_loss, rough = _gradients(precision, scale)
    assert abs(rough_loss - loss) < most_loss * loss
    assert np.linalg.norm(rough - gradients) < most_gradient * np.linalg.norm(gradients)


def test_small_gradients_vanish_in_float16_unless_the_loss_is_scaled():
    small = 2.0**-14  # of a loss such as a network's that has learned much
    _, exact = _gradients('float32')

    def lost(scale):
        _, rough = _gradients('float16', scale)
        return np.mean((rough == 0)[exact != 0])

    assert lost(small) > 0.2
    assert lost(small * loss_scale.INITIAL) < 0.01


def _estimator(model_dir, precision):
    task = Task(
        EXPERIMENT,
        SKIRT,
        length=Length(1000, 1.0),
        watch=Watch(every=1, folder=str(model_dir)),
        compute=Compute(precision),
    )
    settings = tf.estimator.RunConfig(tf_random_seed=1, log_step_count_steps=None)
    return tf.estimator.Estimator(make_model_fn(task), str(model_dir), settings)


def _input_fn():
    return tf.data.Dataset.from_tensor_slices(skirts(4, (SIZE, SIZE))).repeat().batch(4)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_networks_train_in_low_precision_and_go_on_in_float32(tmp_path, precision):
    estimator = _estimator(tmp_path, precision)
    estimator.train(_input_fn, max_steps=10)
    estimator.train(_input_fn, max_steps=20)
    rows = step_tables.read(str(tmp_path / 'metrics.csv'))
    assert rows[20]['loss'] < 0.7 * rows[1]['loss']
    names = set(estimator.get_variable_names())
    if precision == 'float16':
        assert rows[20]['loss_scale'] == 2**15
        assert names >= {'loss_scale/scale', 'loss_scale/good_steps'}
        assert estimator.get_variable_value('loss_scale/good_steps') == 20
    estimator = _estimator(tmp_path, 'float32')
    estimator.train(_input_fn, max_steps=21)
    own = set(estimator.get_variable_names())
    assert names - own == {name for name in names if name.startswith('loss_scale')}
    assert own <= names
