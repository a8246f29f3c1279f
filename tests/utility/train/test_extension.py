"""A training is made longer only where the steps that it has taken stay what they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from config import Experiment
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_records import write_records
from utility.checkpoints import evaluations, runs
from utility.train import extension
from utility.train.plan import make_plan

SIZE = 32
EXPERIMENT = Experiment(epochs=2, epochs_per_eval=1).override(
    'data.category=skirt',
    'data.batch_size=2',
    'schedule.name=step',
    'schedule.warmup_steps=3',
    'schedule.decay_epochs=1,3',
    'schedule.decay_factors=1,0.1,0.01',
)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('records')
    write_records(folder, {'train': {'skirt': 20}, 'val': {'skirt': 1}}, SIZE)
    return str(folder)


def _extend(folder, records, epochs, *settings, taken=20):
    """Plan other epochs where `taken` of 20 steps, 10 an epoch, are trained."""
    trained = EXPERIMENT.override(*settings)
    runs.keep_experiment(str(folder), trained, None)
    write_checkpoint(folder / f'model.ckpt-{taken}', {'global_step': np.int64(taken)})
    longer = dataclasses.replace(trained, epochs=epochs)
    runs.check_folder(str(folder), longer)
    extension.check(str(folder), longer, make_plan(longer, records, 1), records)


@pytest.mark.parametrize(
    ('settings', 'epochs'),
    [
        ((), 2),
        ((), 20),
        (('schedule.name=constant',), 3),
        (('schedule.name=cyclic', 'schedule.cycle_epochs=1'), 4),
        (('schedule.name=plateau', 'schedule.stop_patience=2'), 4),
        (('schedule.name=cosine',), 2),
    ],
)
def test_what_does_not_depend_on_the_length_goes_on(tmp_path, records, settings, epochs):
    _extend(tmp_path, records, epochs, *settings)


def test_batch_norm_keeps_its_statistics_from_the_same_step_on(tmp_path, records):
    settings = ('schedule.name=constant', 'network.freeze_norm_from=0.5')
    _extend(tmp_path, records, 4, *settings, taken=10)
    message = 'batch norm would have kept its statistics from step 20, not 10'
    with pytest.raises(ValueError, match=message):
        _extend(tmp_path, records, 4, *settings, taken=11)


def test_it_may_become_shorter_down_to_where_it_stands(tmp_path, records):
    _extend(tmp_path, records, 1, taken=10)
    with pytest.raises(ValueError, match='stands at step 11; .* ended at step 10'):
        _extend(tmp_path, records, 1, taken=11)


@pytest.mark.parametrize('name', ['cosine', 'polynomial'])
def test_another_learning_rate_is_refused(tmp_path, records, name):
    words = rf"rate of schedule.name='{name}' after step 1 would have been .*--init_checkpoint="
    with pytest.raises(ValueError, match=words):
        _extend(tmp_path, records, 3, f'schedule.name={name}')


def test_a_flat_cosine_may_become_longer_while_it_is_flat(tmp_path, records):
    settings = ('schedule.name=flat_cosine', 'schedule.flat=0.5')
    _extend(tmp_path, records, 4, *settings, taken=11)
    with pytest.raises(ValueError, match='after step 11 would have been'):
        _extend(tmp_path, records, 4, *settings, taken=12)


def test_late_augmentation_that_would_come_at_another_step_is_refused(tmp_path, records):
    late = 'data.late_ops=letterbox({height},{width})|warp'
    _extend(tmp_path, records, 4, late, taken=10)
    with pytest.raises(ValueError, match='late_ops would have come after step 20, not 10'):
        _extend(tmp_path, records, 4, late, taken=11)


def test_an_evaluation_that_decides_must_be_one_of_both(tmp_path, records):
    every = 'epochs_per_eval=1.5'
    _extend(tmp_path, records, 4, every)
    with pytest.raises(ValueError, match='step 20 would not be evaluated in both'):
        _extend(tmp_path, records, 4, every, 'schedule.stop_patience=2')


def test_a_new_folder_has_nothing_to_lose(tmp_path, records):
    extension.check(str(tmp_path), EXPERIMENT, make_plan(EXPERIMENT, records, 1), records)


def _wait(folder, records, patience, errors):
    """Set another patience where step 20 is trained and evaluations found these errors."""
    stopped = EXPERIMENT.override('schedule.stop_patience=1')
    runs.keep_experiment(str(folder), stopped, None)
    write_checkpoint(folder / 'model.ckpt-20', {'global_step': np.int64(20)})
    for step, error in errors.items():
        evaluations.keep(str(folder), step, {'normalized_error': error})
    longer = stopped.override(f'schedule.stop_patience={patience}')
    runs.check_folder(str(folder), longer)
    extension.check(str(folder), longer, make_plan(longer, records, 1), records)


@pytest.mark.parametrize('patience', [0, 1, 2, 5])
def test_a_training_that_ended_early_may_go_on_with_more_patience(tmp_path, records, patience):
    _wait(tmp_path, records, patience, {10: 0.5, 20: 0.6})


def test_a_patience_that_would_have_ended_it_before_is_refused(tmp_path, records):
    errors = {5: 0.5, 10: 0.6, 20: 0.4}
    patient = EXPERIMENT.override('schedule.stop_patience=3')
    runs.keep_experiment(str(tmp_path), patient, None)
    write_checkpoint(tmp_path / 'model.ckpt-20', {'global_step': np.int64(20)})
    for step, error in errors.items():
        evaluations.keep(str(tmp_path), step, {'normalized_error': error})
    impatient = patient.override('schedule.stop_patience=1')
    runs.check_folder(str(tmp_path), impatient)
    with pytest.raises(ValueError, match='stop_patience=1: .*would have ended at step 10: 1 eval'):
        extension.check(str(tmp_path), impatient, make_plan(impatient, records, 1), records)
