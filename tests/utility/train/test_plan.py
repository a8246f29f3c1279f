"""How long a training takes, where it is evaluated, and what it is refused for."""

import itertools

import pytest

from config import DataConfig, Experiment, OptimizerConfig, ScheduleConfig
from tests.tiny_records import write_records
from utility.train import plan

PLAIN = ScheduleConfig()


@pytest.mark.parametrize(
    ('epochs', 'per_eval', 'steps', 'stops'),
    [
        (6, 4, 10, [40, 60]),  # the last stretch is shorter, not dropped
        (50, 30, 1, [30, 50]),
        (4, 4, 2.5, [10]),
        (3, 1, 2.5, [2, 5, 8]),
        (0.1, 7, 3, [1]),
        (2, 0.01, 3, [1, 2, 3, 4, 5, 6]),
        (1, 1e-12, 2, [1, 2]),
    ],
)
def test_evaluation_steps(epochs, per_eval, steps, stops):
    assert plan.evaluation_steps(epochs, per_eval, steps) == stops


def test_evaluation_steps_end_at_the_planned_length():
    for epochs, per_eval, steps in itertools.product((0.5, 7, 28), (0.3, 4, 7), (0.7, 3, 12.5)):
        stops = plan.evaluation_steps(epochs, per_eval, steps)
        assert stops == sorted(set(stops)) and stops[-1] == max(1, round(epochs * steps))


@pytest.mark.parametrize(
    ('settings', 'step'),
    [
        ((), None),
        (('network.freeze_norm_from=0.75',), 15),
        (('network.freeze_norm_from=0.75', 'optimizer.accumulate=4'), 16),
        (('network.freeze_norm_from=0.001', 'optimizer.accumulate=4'), 4),
        (('network.freeze_norm_from=0.99',), None),
        (('network.freeze_norm_from=0.75', 'network.norm=group', 'network.head_norm=batch'), 15),
    ],
)
def test_the_step_from_which_batch_norm_keeps_its_statistics(settings, step):
    assert plan.freeze_step(Experiment().override(*settings), 20) == step


@pytest.mark.parametrize('setting', ['network.norm=group', 'averaging.kind=ema'])
def test_what_has_no_statistics_to_keep_is_refused(setting):
    experiment = Experiment().override('network.freeze_norm_from=0.75', setting)
    with pytest.raises(ValueError, match='network.freeze_norm_from=0.75: must be 1 with '):
        plan.freeze_step(experiment, 20)


@pytest.mark.parametrize('share', ['0', '-0.5', '1.1', 'nan'])
def test_a_share_is_above_nothing_and_no_more_than_all(share):
    with pytest.raises(ValueError, match='network.freeze_norm_from='):
        Experiment().override(f'network.freeze_norm_from={share}')


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    """Records of seven skirts to train with and of one to validate with, and of a dress."""
    splits = {'train': {'skirt': 7, 'dress': 1}, 'val': {'skirt': 1, 'dress': 0}}
    return write_records(tmp_path_factory.mktemp('records'), splits, 8)


def _experiment(category='skirt', schedule=PLAIN, **optimizer):
    return Experiment(
        data=DataConfig(category=category, batch_size=2),
        optimizer=OptimizerConfig(**optimizer),
        schedule=schedule,
        epochs=6.0,
        epochs_per_eval=4.0,
    )


@pytest.mark.parametrize(
    ('replicas', 'accumulate', 'steps_per_epoch', 'stops', 'batch'),
    [
        (1, 1, 3.5, (14, 21), '2'),
        (2, 1, 1.75, (7, 10), '2 x 2 replicas = 4'),
        # Whole updates: 10.5 of them are 10, and none is left without its last steps.
        (1, 2, 3.5, (14, 20), '2 x 2 steps an update = 4'),
        (2, 3, 1.75, (6, 12), '2 x 2 replicas x 3 steps an update = 12'),
    ],
)
def test_a_training_takes_whole_updates(
    data_dir, replicas, accumulate, steps_per_epoch, stops, batch
):
    made = plan.make_plan(_experiment(accumulate=accumulate), data_dir, replicas)
    assert (made.length.total_steps, made.length.steps_per_epoch) == (stops[-1], steps_per_epoch)
    assert made.stops == stops
    assert str(made) == f'7 pictures, batch {batch}, {stops[-1]} steps in all'


def test_categories_to_evaluate_are_those_with_pictures(data_dir):
    made = plan.make_plan(_experiment('all'), data_dir, 1)
    assert (made.num_train, made.num_val, made.eval_categories) == (8, 1, ('skirt',))


@pytest.mark.parametrize(
    ('schedule', 'named'),
    [
        ({'name': 'plateau'}, "schedule.name='plateau'"),
        ({'stop_patience': 2}, 'schedule.stop_patience=2'),
    ],
)
def test_what_goes_by_the_validation_needs_one(data_dir, schedule, named):
    experiment = _experiment('dress', ScheduleConfig(**schedule))
    with pytest.raises(ValueError) as caught:
        plan.make_plan(experiment, data_dir, 1)
    assert str(caught.value) == (
        f'{named}: goes by the NE of the validation, and {data_dir} has no validation pictures of '
        'dress'
    )
    plan.make_plan(_experiment('skirt', ScheduleConfig(**schedule)), data_dir, 1)


@pytest.mark.parametrize(
    ('optimizer', 'message'),
    [
        ({'name': 'lamb'}, 'unknown optimizer'),
        ({'learning_rate': 1e-7}, 'schedule.warmup_learning_rate=1e-05: must be at most'),
    ],
)
def test_the_optimizer_and_the_rates_are_checked(data_dir, optimizer, message):
    with pytest.raises(ValueError, match=message):
        plan.make_plan(_experiment(**optimizer), data_dir, 1)
