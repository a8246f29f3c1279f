"""The dry run tells what a training would be, the finder tries rates; neither touches a run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig, OptimizerConfig, ScheduleConfig
from preprocessing import graph_messages, records
from tests.tiny_records import write_records
from utility.checkpoints import step_tables
from utility.command_line.scripts import RunError
from utility.train import runner
from utility.train.flags import RunOptions
from utility.train.plan import make_plan
from utility.train.preflight import dry_run, learning_rate_finder
from utility.train.preflight.dry_run import text_chart
from utility.train.preflight.learning_rate_finder import PAGE, TABLE, Ramp, read_ramp

v1 = tf.compat.v1

SIZE = 32
OPS = f'letterbox({SIZE},{SIZE})|warp'
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 8}, {'channels': 8}),
    data=DataConfig(category='skirt', train_ops=OPS, eval_ops=OPS, batch_size=2),
    optimizer=OptimizerConfig(name='adamw', weight_decay=0.1, accumulate=2),
    schedule=ScheduleConfig(name='cosine', warmup_steps=0),
    epochs=8.0,
    epochs_per_eval=2.0,
)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 6}, 'val': {'skirt': 1}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


def test_a_chart_of_text_has_each_value_in_its_row():
    assert text_chart([0.0, 1.0, 2.0, 1.0], height=3) == [
        '        2 |  *',
        '          | * *',
        '        0 |*',
    ]


def test_a_column_of_many_values_reaches_from_the_lowest_to_the_highest():
    lines = text_chart([0.1, 4.0, 2.0, 2.0], width=2, height=5)
    assert [line[11:] for line in lines] == ['*', '*', '**', '*', '*']


def test_a_chart_of_zeros_is_a_line_at_the_bottom():
    assert [line[11:] for line in text_chart([0.0, 0.0], height=3)] == ['', '', '**']


def test_the_estimate_counts_what_the_backward_pass_reads():
    with tf.Graph().as_default() as graph:
        inputs = tf.random.normal([8, 10])
        with tf.name_scope('head/'):
            first, second = (
                v1.Variable(lambda s=s: tf.ones(s), name=n, use_resource=True, trainable=True)
                for n, s in (('a', [10, 20]), ('b', [20, 5]))
            )
            v1.Variable(lambda: tf.ones([20]), name='moving', use_resource=True, trainable=False)
            v1.Variable(lambda: tf.ones([3]), name='a/Adam', use_resource=True, trainable=False)
        hidden = tf.nn.relu(inputs @ first)
        loss = tf.reduce_sum(tf.reshape(hidden, [8, 20]) @ second)
        tf.gradients(loss, [first, second])
    # The product's inputs: the pictures and what the ReLU gives, which is also what it needs.
    assert dry_run.estimate_memory(graph) == dry_run.Memory(
        weights=4 * (200 + 100 + 20), gradients=4 * 300, state=4 * 3, activations=4 * (80 + 160)
    )


@pytest.fixture(scope='module')
def described(data_dir, tmp_path_factory):
    """The lines of a dry run, which writes nothing, below the name of the folder."""
    folder = tmp_path_factory.mktemp('dry_run')
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runner.train(EXPERIMENT, _options(data_dir, folder / 'run', dry_run=True))
    assert list(folder.iterdir()) == []
    first, name, empty, *lines = printed.getvalue().splitlines()
    assert (first, name, empty) == ('', f'{folder}/run/skirt', '')
    return lines


def test_a_dry_run_finds_what_a_training_would_find_before_it_prints(data_dir, tmp_path, capsys):
    frozen = EXPERIMENT.override('network.norm=frozen')
    for options in (
        _options(data_dir, tmp_path / 'run', dry_run=True),
        _options(data_dir, tmp_path / 'run'),
    ):
        with pytest.raises(ValueError, match='norm=.frozen. keeps statistics, but'):
            runner.train(frozen, options)
    missing = _options(data_dir, tmp_path / 'run', dry_run=True, init_checkpoint='/no/weights')
    with pytest.raises(ValueError, match='/no/weights'):
        runner.train(EXPERIMENT, missing)
    assert 'backbone/' not in capsys.readouterr().out


def test_a_dry_run_of_networks_that_go_on_from_one_that_is_not_trained_yet(
    data_dir, tmp_path, capsys
):
    options = RunOptions(data_dir, str(tmp_path / 'run'), 'all_then_each', dry_run=True)
    runner.train(EXPERIMENT.override('data.category=all', 'finetune.epochs=4'), options)
    printed = capsys.readouterr().out
    assert f'{tmp_path}/run/skirt' in printed and '\n4 epochs of 3 steps' in printed


def test_a_dry_run_begins_with_the_experiment(described):
    assert Experiment.from_json('\n'.join(described[: described.index('')])) == EXPERIMENT


def test_a_dry_run_counts_steps_updates_and_evaluations(described):
    told = described[described.index('') + 1 :]
    assert told[:3] == [
        '6 pictures, batch 2 x 2 steps an update = 4, 24 steps in all',
        '8 epochs of 3 steps; 12 updates of the weights; 1 pictures to validate with',
        '4 evaluations, after step 6, 12, 18, 24',
    ]
    assert told[4] == (
        'learning rate over 8 epochs (cosine): 0.0001 at first, 0.0001 at most, '
        f'{1e-6 + 99e-6 * (0.5 + 0.5 * math.cos(math.pi * 11 / 12)):g} in the last step'
    )


def test_a_dry_run_names_variables_and_those_that_decay(described):
    rows = [line.split() for line in described if line.startswith(('backbone/', 'head/'))]
    kinds = {row[0]: row[3:] for row in rows}
    assert kinds['backbone/conv1/kernel'] == ['decays']
    assert kinds['backbone/conv1/norm/gamma'] == kinds['head/heatmaps/bias'] == []
    assert kinds['backbone/conv1/norm/moving_mean'] == ['not', 'trained']
    numbers = {row[0]: int(row[2].replace(',', '')) for row in rows}
    trained = sum(n for name, n in numbers.items() if kinds[name] != ['not', 'trained'])
    decayed = sum(n for name, n in numbers.items() if kinds[name] == ['decays'])
    num_trained = sum(kind != ['not', 'trained'] for kind in kinds.values())
    assert (
        f'{trained:,} parameters in {num_trained} variables, of which {decayed:,} decay'
    ) in described
    assert 0 < decayed < trained
    mib = 4 / 2**20
    sizes = {line.split('  ')[0]: line.split()[-2] for line in described if 'MiB' in line}
    assert sizes['weights'] == f'{sum(numbers.values()) * mib:.1f}'
    # Two moments and the sum of gradients.
    assert abs(float(sizes['state']) - 3 * trained * mib) < 0.1


def _files(folder):
    return {str(p): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def _options(data_dir, folder, **asked):
    return RunOptions(data_dir, str(folder), 'skirt', **asked)


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        ({'dry_run': True, 'find_learning_rate': True}, 'give one of them'),
        ({'strategy': 'mirrored', 'find_learning_rate': True}, 'optimizer.accumulate=N'),
    ],
)
def test_rehearsals_that_do_not_go_together(asked, message):
    with pytest.raises(ValueError, match=message):
        RunOptions('data', 'run', **asked)


def _losses_of(rates, best=1e-2):
    """Return falls over two decades before the best rate, and then shoots up."""
    away = np.log10(rates / best)
    return np.where(away < 0, 1 - 0.4 * np.exp(-((away / 0.8) ** 2)), 0.6 * 10 ** (2 * away))


def test_the_finding_tells_where_the_loss_is_lowest_and_advises_no_rate():
    rates = np.geomspace(1e-7, 10, 101)
    finding = read_ramp(Ramp(rates, _losses_of(rates)))
    assert 5e-3 < finding.lowest < 1e-2
    told = str(finding)
    ending = 'which rate trains best only trainings tell'
    assert f'is lowest at {finding.lowest:.2g}; {ending}' in told
    assert 'try ' not in told
    assert 1e-3 < finding.steepest < finding.lowest
    assert np.isfinite(finding.smoothed).all() and len(finding.smoothed) < len(rates)
    assert finding.smoothed.max() < 4


def test_a_training_that_broke_down_still_tells_a_rate():
    rates = np.geomspace(1e-7, 10, 101)
    whole = read_ramp(Ramp(rates, _losses_of(rates)))
    losses = np.append(_losses_of(rates)[:66], np.nan)
    assert read_ramp(Ramp(rates[:67], losses)).lowest == whole.lowest


def test_one_hard_batch_does_not_end_the_ramp():
    rates = np.geomspace(1e-7, 10, 101)
    losses = _losses_of(rates)
    losses[20] = 50.0
    assert read_ramp(Ramp(rates, losses)).lowest == read_ramp(Ramp(rates, _losses_of(rates))).lowest


def test_losses_that_only_rise_are_told():
    finding = read_ramp(Ramp(np.geomspace(1e-7, 10, 50), np.linspace(1, 2, 50)))
    assert not finding.falls
    assert str(finding) == 'the loss does not fall at any rate'


def test_the_finder_writes_its_table_and_page_only(data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(learning_rate_finder, 'UPDATES', 10)
    folder = tmp_path / 'skirt'
    folder.mkdir()
    (folder / 'kept').write_text('what a run has')
    before = _files(tmp_path)
    runner.train(EXPERIMENT, _options(data_dir, tmp_path, find_learning_rate=True))
    after = _files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {str(folder / TABLE), str(folder / PAGE)}
    rows = step_tables.read(str(folder / TABLE)).values()
    rates = [row['learning_rate'] for row in rows]
    np.testing.assert_allclose(rates, np.geomspace(1e-7, 10, 10), rtol=1e-4)
    losses = [row['loss'] for row in rows]
    assert losses[-1] > 1.5 * losses[0] > 0  # a rate of 10 is too high for anything
    page = after[str(folder / PAGE)].decode()
    assert 'learning rate</text>' in page and '<svg' in page
    assert capsys.readouterr().out.startswith(f'{folder}: ')


def test_weights_that_give_no_finite_loss_suggest_nothing(data_dir, monkeypatch):
    monkeypatch.setattr(learning_rate_finder, '_step', lambda session, spec: np.nan)
    with pytest.raises(RunError, match='not finite at the lowest rate, 1e-07: no rate can be'):
        learning_rate_finder.make_ramp(EXPERIMENT, make_plan(EXPERIMENT, data_dir, 1), data_dir)


def test_a_record_with_a_point_that_is_no_number_is_named_by_the_finder(tmp_path):
    data_dir = write_records(tmp_path / 'records', {'train': {'skirt': 2}}, SIZE)
    (path,) = (tmp_path / 'records' / 'train').iterdir()
    examples = [tf.train.Example.FromString(one.numpy()) for one in tf.data.TFRecordDataset(path)]
    examples[1].features.feature['image/keypoints'].float_list.value[0] = np.nan
    with records.shard_writer(str(path)) as write:
        for example in examples:
            write(example.SerializeToString())
    plan = make_plan(EXPERIMENT, data_dir, 1)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        learning_rate_finder.make_ramp(EXPERIMENT, plan, data_dir)
    found = graph_messages.find(graph_messages.FAULTY_RECORD, caught.value)
    assert found.startswith('faulty record skirt/1.jpg of category skirt: ')


@pytest.mark.slow
def test_a_ramp_is_the_same_with_the_same_seed(data_dir, monkeypatch):
    monkeypatch.setattr(learning_rate_finder, 'UPDATES', 3)
    experiment = dataclasses.replace(EXPERIMENT, optimizer=OptimizerConfig(accumulate=1))
    plan = make_plan(experiment, data_dir, 1)
    first, again = (learning_rate_finder.make_ramp(experiment, plan, data_dir) for _ in 'ab')
    np.testing.assert_array_equal(first.losses, again.losses)
    assert len(first.losses) == 3
