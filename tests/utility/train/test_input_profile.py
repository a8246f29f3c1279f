"""The profile of the input: its stages, their costs, what limits, and that nothing is written."""

from __future__ import annotations

import pytest

from config import DataConfig, Experiment, NetworkConfig
from tests.tiny_records import write_records
from utility.statistics.medians import summarize
from utility.train import runner
from utility.train.flags import RunOptions
from utility.train.plan import make_plan
from utility.train.preflight import input_profile
from utility.train.preflight.input_profile import verdict

SIZE = 32
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 8}, {'channels': 8}),
    data=DataConfig(category='skirt', batch_size=2),
)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp('records'), {'train': {'skirt': 5}}, SIZE)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name, value in (
        ('ROUNDS', 2),
        ('SECONDS', 0.01),
        ('PREPARED', 1),
        ('PAUSE', 0),
        ('STEP_SECONDS', 0),
    ):
        monkeypatch.setattr(input_profile, name, value)


@pytest.mark.parametrize(
    ('step', 'limits'),
    [
        (30.0, "the input limits the training, most of all 'decode'"),
        (20.0, 'the training step limits'),
    ],
)
def test_the_slower_of_input_and_step_limits_and_the_stage_that_costs_most_is_named(step, limits):
    rates = {n: summarize([r]) for n, r in (('read', 200.0), ('decode', 40.0), ('augment', 25.0))}
    message = verdict(rates, summarize([step]))
    assert message == f'the input gives 25 pictures/s, the step takes {step:.0f}: {limits}'


@pytest.mark.parametrize('augment_on', ['host', 'device'])
def test_stages_read_the_training_as_it_is_read(data_dir, augment_on):
    plan = make_plan(EXPERIMENT, data_dir, 1)
    stages = input_profile.stages(EXPERIMENT, plan, data_dir, augment_on)
    *_, last = stages
    assert last == {'host': 'augment', 'device': 'decode what is seen'}[augment_on]
    features, _ = next(iter(stages[last]))
    assert ('image' in features) == (augment_on == 'host')
    records = next(iter(stages['read, shuffle']))
    # The stages see the records in the order of the training.
    pairs = zip(features['image_id'].numpy(), records.numpy())
    assert all(image_id in record for image_id, record in pairs)
    rates = input_profile.measure(stages, 2, rounds=2)
    assert rates.keys() == stages.keys()
    assert all(len(values) == 2 and min(values) > 0 for values in rates.values())


def test_the_flag_prints_every_stage_and_trains_nothing(data_dir, tmp_path, capsys):
    options = RunOptions(data_dir, str(tmp_path / 'run'), 'skirt', profile_input=True)
    runner.train(EXPERIMENT, options)
    lines = capsys.readouterr().out.splitlines()
    (head,) = (i for i, line in enumerate(lines) if line.startswith('up to'))
    names = [line.split('  ')[0] for line in lines[head + 1 : -1]]
    assert names == [
        'read, shuffle', '+ parse', '+ decode', '+ augment', 'batching alone', 'training step'
    ]  # fmt: skip
    assert 'limit' in lines[-1] and not (tmp_path / 'run').exists()


def test_only_one_thing_can_be_asked_for_instead_of_a_training():
    with pytest.raises(ValueError, match='--dry_run --profile_input: give one of them'):
        RunOptions('records', 'run', dry_run=True, profile_input=True)
