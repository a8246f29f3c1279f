"""config: strict and typed overrides, JSON, differences, the registry."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
from config import DataConfig, Experiment, LossConfig, NetworkConfig, Registry, ScheduleConfig

DEFAULT = Experiment()
PARTS = ('network', 'data', 'loss', 'optimizer')


def _keys() -> list[str]:
    """Return every key that can be overridden, options aside."""
    keys = []
    for field in dataclasses.fields(Experiment):
        value = getattr(DEFAULT, field.name)
        if dataclasses.is_dataclass(value):
            keys += [f'{field.name}.{part.name}' for part in dataclasses.fields(value)]
        else:
            keys.append(field.name)
    return keys


def _value(experiment: Experiment, key: str):
    value = experiment
    for name in key.split('.'):
        value = getattr(value, name)
    return value


positive = st.floats(1e-6, 1e5)
sizes = st.integers(1, 2048)
words = st.text(st.characters(min_codepoint=32), max_size=20).map(str.strip)
overrides = st.one_of(
    st.tuples(st.sampled_from(['network.backbone', 'data.train_ops', 'refine']), words),
    st.tuples(
        st.sampled_from(['epochs', 'optimizer.learning_rate', 'loss.target_scale']), positive
    ),
    st.tuples(st.sampled_from(['data.batch_size', 'data.shuffle_buffer', 'seed']), sizes),
    st.tuples(
        st.sampled_from(['network.image_size', 'network.heatmap_size']), st.tuples(sizes, sizes)
    ),
    st.tuples(
        st.sampled_from(['loss.sigmas', 'loss.weights']),
        st.lists(positive, min_size=1, max_size=5).map(tuple),
    ),
)


@given(overrides)
def test_override_sets_one_field_and_no_other(override):
    key, value = override
    changed = DEFAULT.override(f'{key}={value}')
    assert _value(changed, key) == value
    assert type(_value(changed, key)) in (type(_value(DEFAULT, key)), type(value))
    assert [key for key in _keys() if _value(changed, key) != _value(DEFAULT, key)] == (
        [key] if value != _value(DEFAULT, key) else []
    )
    assert Experiment() == DEFAULT


@given(st.lists(overrides, max_size=4))
def test_json_round_trip(several):
    experiment = DEFAULT
    for key, value in several:
        experiment = experiment.override(f'{key}={value}')
    text = experiment.to_json()
    assert Experiment.from_json(text) == experiment
    assert Experiment.from_json(text).to_json() == text
    assert text.endswith('}\n')


@pytest.mark.parametrize(
    ('assignment', 'key', 'value'),
    [
        ('epochs=3', 'epochs', 3.0),
        (' optimizer.learning_rate = 1e-3 ', 'optimizer.learning_rate', 1e-3),
        ('network.image_size=256,192', 'network.image_size', (256, 192)),
        ('network.image_size=[256, 192]', 'network.image_size', (256, 192)),
        ('network.heatmap_size=none', 'network.heatmap_size', None),
        ('averaging.kind=none', 'averaging.kind', 'none'),
        ('loss.sigmas=None', 'loss.sigmas', None),
        ('loss.sigmas=2', 'loss.sigmas', (2.0,)),
        ('loss.sigmas=3,2.5,2', 'loss.sigmas', (3.0, 2.5, 2.0)),
        ('optimizer.decay_kinds=norm', 'optimizer.decay_kinds', ('norm',)),
        ('optimizer.decay_kinds=kernel, bias', 'optimizer.decay_kinds', ('kernel', 'bias')),
        ("optimizer.decay_kinds='bias','norm'", 'optimizer.decay_kinds', ('bias', 'norm')),
        ('data.eval_ops=a(b=1)|c', 'data.eval_ops', 'a(b=1)|c'),
        ("data.category='7'", 'data.category', '7'),
        ("network.head_options={'a': 1}", 'network.head_options', {'a': 1}),
        ('network.head_options.channels=64', 'network.head_options', {'channels': 64}),
        ('network.backbone_options.frozen=true', 'network.backbone_options', {'frozen': True}),
        ('network.backbone_options.norm=group', 'network.backbone_options', {'norm': 'group'}),
    ],
)
def test_what_override_understands(assignment, key, value):
    found = _value(DEFAULT.override(assignment), key)
    assert found == value
    assert type(found) is type(value)


def test_options_are_added_to_those_there():
    experiment = DEFAULT.override('network.head_options.a=1').override('network.head_options.b=2')
    assert experiment.network.head_options == {'a': 1, 'b': 2}
    assert DEFAULT.network.head_options == {}


def test_fields_that_belong_together_may_change_one_by_one():
    epochs, factors = 'schedule.decay_epochs=5', 'schedule.decay_factors=1,0.1'
    for assignments in ((epochs, factors), (factors, epochs)):
        schedule = Experiment().override(*assignments).schedule
        assert (schedule.decay_epochs, schedule.decay_factors) == ((5.0,), (1.0, 0.1))
    with pytest.raises(ValueError, match='one longer than schedule.decay_epochs'):
        Experiment().override(epochs)


@pytest.mark.parametrize(
    ('assignment', 'words'),
    [
        ('epochs', ['epochs', 'key=value']),
        ('epoch=3', ["'epoch'", "did you mean 'epochs'?"]),
        ('optimizer.learning_rat=3', ["'optimizer.learning_rat'", "'learning_rate'", 'momentum']),
        ('learning_rate=3', ["'learning_rate'", 'optimizer']),
        ('epochs.x=3', ["'epochs.x'"]),
        ('network.head_options.a.b=3', ["'network.head_options.a.b'"]),
        ('=3', ['unknown']),
        ('network=resnet50', ['network']),
        ('epochs=many', ['epochs', "'many'", 'float']),
        ('epochs=True', ['epochs', 'True', 'float']),
        ('epochs=nan', ['epochs']),
        ('seed=1.5', ['seed', '1.5', 'int']),
        ('seed=', ['seed', 'int']),
        ('data.batch_size=1e3', ['data.batch_size', 'int']),
        ('network.image_size=256', ['network.image_size', '256']),
        ('network.image_size=1,2,3', ['network.image_size', '(1, 2, 3)']),
        ('network.image_size=256.0,256.0', ['network.image_size', '256.0']),
        ('network.image_size={1,2}', ['network.image_size']),
        ('network.head_options=3', ['network.head_options', '3']),
        ("loss.sigmas=(1,'a')", ['loss.sigmas', "'a'"]),
    ],
)
def test_override_refuses(assignment, words):
    with pytest.raises(ValueError) as error:
        DEFAULT.override(assignment)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize(
    'assignment',
    [
        'epochs=0',
        'epochs_per_eval=-1',
        'data.batch_size=0',
        'data.shuffle_buffer=0',
        'network.image_size=0,256',
        'network.heatmap_size=64,-64',
        'network.std=0,1,1',
        'loss.points=all',
        'loss.ohkm=0',
        'loss.ohkm=1.01',
        'loss.sigmas=()',
        'loss.sigmas=2,0',
        'loss.weights=()',
        'loss.weights=1,-1',
        'loss.target_scale=0',
        'optimizer.learning_rate=0',
        'optimizer.weight_decay=-1e-9',
        'schedule.warmup_steps=-1',
        'schedule.decay_epochs=20,10',
        'schedule.decay_factors=1,0.1',
    ],
)
def test_values_out_of_range_are_refused_by_name(assignment):
    with pytest.raises(ValueError, match='must be') as error:
        DEFAULT.override(assignment)
    assert str(error.value).startswith(assignment.split('=')[0] + '=')


def test_ranges_hold_in_a_script_as_well():
    with pytest.raises(ValueError, match=r'loss\.ohkm=2'):
        LossConfig(ohkm=2)
    with pytest.raises(ValueError, match=r'schedule\.decay_factors'):
        ScheduleConfig(decay_epochs=(1.0,))


def test_absent_keys_are_defaults():
    assert Experiment.from_json('{}') == DEFAULT
    assert Experiment.from_json('{"loss": {}}') == DEFAULT
    experiment = Experiment.from_json('{"loss": {"ohkm": 1}, "seed": 3}')
    assert experiment == Experiment(loss=LossConfig(ohkm=1.0), seed=3)
    assert type(experiment.loss.ohkm) is float


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', ['Expecting']),
        ('{"epochs": 3', ['Expecting']),
        ('[]', ['object']),
        ('null', ['object']),
        ('{"network": null}', ['network', 'None']),
        ('{"network": "resnet50"}', ['network', "'resnet50'"]),
        ('{"network": {"backbon": "a"}}', ["'network.backbon'", "'backbone'"]),
        ('{"__class__": {}}', ['__class__']),
        ('{"network": {"image_size": [1]}}', ['network.image_size', '[1]']),
        ('{"network": {"image_size": "ab"}}', ['network.image_size', "'ab'"]),
        ('{"network": {"image_size": [[1, 2], 3]}}', ['network.image_size']),
        ('{"network": {"head_options": []}}', ['network.head_options']),
        ('{"seed": true}', ['seed', 'True']),
        ('{"seed": 1.0}', ['seed', '1.0']),
        ('{"epochs": "3"}', ['epochs', "'3'"]),
        ('{"epochs": NaN}', ['epochs', 'nan']),
        ('{"data": {"category": 3}}', ['data.category', '3']),
        ('{"loss": {"ohkm": 7}}', ['loss.ohkm', '7']),
    ],
)
def test_from_json_refuses(text, words):
    with pytest.raises(ValueError) as error:
        Experiment.from_json(text)
    assert [word for word in words if word not in str(error.value)] == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.floats(-1e9, 1e9)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(_keys()), json_values)
def test_any_json_value_is_refused_or_of_the_right_type(key, value):
    nested = value
    for name in reversed(key.split('.')):
        nested = {name: nested}
    try:
        experiment = Experiment.from_json(json.dumps(nested))
    except ValueError as error:
        assert key in str(error)  # noqa: PT017
        return
    default = _value(DEFAULT, key)  # None: follows another setting unless it is a number or several
    allowed = (type(default),) if default is not None else (type(None), tuple, float, int)
    assert type(_value(experiment, key)) in allowed
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_differences():
    assert DEFAULT.differences(Experiment()) == []
    other = dataclasses.replace(
        DEFAULT,
        network=NetworkConfig(head_options={'channels': 64}),
        data=DataConfig(batch_size=4),
        seed=1,
    )
    assert DEFAULT.differences(other) == [
        'data.batch_size: 10 / 4',
        'network.head_options: {} / None',
        'network.head_options.channels: None / 64',
        f'seed: {DEFAULT.seed} / 1',
    ]
    assert len(other.differences(DEFAULT)) == 4


@given(overrides)
def test_differences_name_the_key_that_was_overridden(override):
    key, value = override
    changed = DEFAULT.override(f'{key}={value}')
    assert [line.split(':')[0] for line in DEFAULT.differences(changed)] == (
        [] if changed == DEFAULT else [key]
    )
    assert changed.differences(Experiment.from_json(changed.to_json())) == []


def test_op_strings_are_given_the_picture_size():
    experiment = DEFAULT.override('network.image_size=96,64')
    assert experiment.resolved_ops('a({height},{width})|b({width})') == 'a(96,64)|b(64)'


def test_registry():
    registry = Registry('op', 'The contract.')

    @registry.register('rotate')
    def rotate():
        return 'turned'

    registry.register('flip')(len)
    assert rotate() == 'turned'
    assert registry.get('rotate') is rotate
    assert registry.names() == ['flip', 'rotate']
    assert registry.__doc__ == 'The contract.'
    with pytest.raises(ValueError, match="op 'flip' is registered already"):
        registry.register('flip')(min)
    assert registry.get('flip') is len
    with pytest.raises(ValueError, match="unknown op 'rotat'.*flip, rotate.*mean 'rotate'"):
        registry.get('rotat')
    with pytest.raises(ValueError, match="unknown op 'zzz'; there are: flip, rotate$"):
        registry.get('zzz')


def test_imagenet_numbers_are_torchvisions_times_255():
    for ours, theirs in (
        (config.IMAGENET_MEAN, (0.485, 0.456, 0.406)),
        (config.IMAGENET_STD, (0.229, 0.224, 0.225)),
    ):
        assert all(math.isclose(a, b * 255) for a, b in zip(ours, theirs))


# What a run of before there were shares kept, as far as it tells lengths and sizes.
OLD_RUN = """{
  "network": {"backbone": "resnet50", "image_size": [384, 384], "heatmap_size": [96, 96]},
  "loss": {"sigmas": [3.0, 2.5, 2.0, 2.0, 2.0]},
  "schedule": {"name": "step", "warmup_steps": 100, "decay_epochs": [15.0, 23.0],
               "decay_factors": [1.0, 0.2, 0.04], "cycle_epochs": 1.0},
  "averaging": {"kind": "none", "start_epoch": 0.0, "period_epochs": 0.0},
  "epochs": 28.0, "epochs_per_eval": 4.0
}"""


def test_a_run_of_before_there_were_shares_means_the_same():
    from utility.optim import schedules, weight_averaging

    experiment = Experiment.from_json(OLD_RUN)
    assert experiment.network.map_size == (96, 96)
    assert experiment.loss.sigmas_on((96, 96)) == (3.0, 2.5, 2.0, 2.0, 2.0)
    length = schedules.Length(2800, 100.0)
    steps = [50, 100, 1499, 1500, 2299, 2300]
    optimizer = dataclasses.replace(experiment.optimizer, learning_rate=1.0)
    rates = schedules.learning_rate(optimizer, experiment.schedule, np.array(steps), length)
    np.testing.assert_allclose(rates, [0.500005, 1, 1, 0.2, 0.2, 0.04], rtol=1e-5)
    cyclic = dataclasses.replace(experiment.schedule, name='cyclic')
    assert schedules.cycle_ends(cyclic, length)[:2] == (100, 200)
    weight_averaging.check_averaging(experiment, length)


def test_heat_maps_and_sigmas_follow_the_size_of_the_picture():
    small = DEFAULT.override('network.image_size=192,256')
    assert small.network.map_size == (48, 64)
    assert small.loss.sigmas_on(small.network.map_size) == (2.0,)
    assert DEFAULT.loss.sigmas_on(DEFAULT.network.map_size) == (4.0,)
    chosen = small.override('network.heatmap_size=24,32', 'loss.sigmas=1.5')
    assert (chosen.network.map_size, chosen.loss.sigmas_on((24, 32))) == ((24, 32), (1.5,))


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        ('network.head_options={[]: 1}', 'must be of type'),
        ('network={1: 2}', "unknown setting 'network.1'"),
        ('network.backbone_options={1: {2: 3}, "a": {[1]: 2}}', 'must be of type'),
        (f'seed={"-" * 100_000}1', 'seed='),
        (f'seed={"-" * 1500}1', 'seed='),
        (f'seed={"(" * 1500}', 'must be of type int'),
        (f'epochs={"9" * 1900}', 'must be of type float'),
        ('data.shuffle_buffer=9223372036854775807', 'must be from 1 to 1,000,000'),
        ('data.batch_size=1000000', 'must be from 1 to 4,096'),
        ('epochs=1e12', 'must be at most 100,000'),
        ('finetune.epochs=1e12', 'must be at most 100,000'),
        ('evaluations=1000000000', 'must be from 1 to 100,000'),
        ('network.image_size=100000,100000', 'must be from 1 to 4,096'),
        ('network.heatmap_size=100000,64', 'must be from 1 to 4,096'),
        ('network.backbone_options.width=100000', 'without numbers beyond 16384'),
        ('network.head_options={"a": [1, [2, 1e9]]}', 'without numbers beyond 16384'),
        ('optimizer.accumulate=1000000', 'must be from 1 to 4,096'),
        ('seed=18446744073709551616', 'must be from '),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(assignment, message):
    with pytest.raises(config.UserError) as refused:
        DEFAULT.override(assignment)
    assert message in str(refused.value)


@pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 100_000, '[]', '"x"', '{"network": 3}'])
def test_json_that_is_no_experiment_is_refused(text):
    with pytest.raises(ValueError, match='.'):
        Experiment.from_json(text)
