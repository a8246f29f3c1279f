"""Which processes train together: TF_CONFIG, what each strategy needs of it, who waits for whom."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from config import OptimizerConfig
from utility.distribute import cluster, early_stop_signal, strategies
from utility.distribute.cluster import Cluster
from utility.distribute.early_stop_signal import EarlyStopSignal
from utility.distribute.watchdog import Watchdog

JOBS = {'chief': ('a:1',), 'worker': ('b:2', '[::1]:65535')}
SERVERS = {'chief': ('a:1',), 'worker': ('b:2',), 'ps': ('c:3',)}


def _set(monkeypatch, value) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    monkeypatch.setenv('TF_CONFIG', text)


def _config(jobs, job, index=0, **more):
    return {'cluster': jobs, 'task': {'type': job, 'index': index, **more}, 'environment': 'cloud'}


@pytest.mark.parametrize(
    'value', ['', ' ', '{}', '{"task": {"type": "worker"}}', '{"cluster": {}}']
)
def test_without_a_cluster_the_process_is_alone(monkeypatch, value):
    _set(monkeypatch, value)
    assert cluster.from_environment() is None
    assert cluster.from_environment({}) is None


@pytest.mark.parametrize(
    ('jobs', 'job', 'index', 'is_chief', 'num_workers'),
    [
        (JOBS, 'chief', 0, True, 3),
        (JOBS, 'worker', 0, False, 3),
        (JOBS, 'worker', '1', False, 3),  # Vertex AI has written the index as text
        ({'worker': ['a:1', 'b:2']}, 'worker', 0, True, 2),  # a TFJob without a chief
        ({'worker': ['a:1', 'b:2']}, 'worker', 1, False, 2),
        (SERVERS, 'ps', 0, False, 2),
    ],
)
def test_the_chief_is_worker_0_where_there_is_none(
    monkeypatch, jobs, job, index, is_chief, num_workers
):
    _set(monkeypatch, _config(jobs, job, index, trial='3'))
    found = cluster.from_environment()
    assert (found.job, found.index) == (job, int(index))
    assert (found.is_chief, found.num_workers) == (is_chief, num_workers)
    assert cluster.from_environment({'TF_CONFIG': cluster.to_json(found)}) == found


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('{"cluster"', 'TF_CONFIG={"cluster": not JSON'),
        ('[' * 100_000, 'not JSON'),
        ('x' * 1000, 'not JSON'),
        ('[]', r'TF_CONFIG=\[\]: must be an object'),
        ({'cluster': ['a:1']}, 'TF_CONFIG: cluster=.*must be an object of job'),
        ({'cluster': {'master': ['a:1']}}, "'master': must be of the jobs chief, worker, ps"),
        ({'cluster': {'worker': 'a:1'}}, "cluster.worker='a:1': must be a list"),
        ({'cluster': {'worker': []}}, r'cluster.worker=\[\]: must be a list'),
        ({'cluster': {'worker': ['a']}}, "cluster.worker='a': must be 'host:port'"),
        ({'cluster': {'worker': ['a:0']}}, "must be 'host:port'"),
        ({'cluster': {'worker': ['a:65536']}}, "must be 'host:port'"),
        ({'cluster': {'worker': ['grpc://a:1']}}, "must be 'host:port'"),
        ({'cluster': {'worker': [7]}}, "cluster.worker=7: must be 'host:port'"),
        ({'cluster': {'worker': ['a:1', 'a:1']}}, "cluster='a:1': must be there once"),
        ({'cluster': {'chief': ['a:1', 'b:1']}}, 'cluster.chief=.*must be one address'),
        ({'cluster': {'ps': ['a:1']}}, 'must be with a chief or a worker'),
        ({'cluster': JOBS}, 'task=None: must be an object'),
        (_config(JOBS, 'ps'), "task.type='ps': must be one of chief, worker"),
        (_config(JOBS, 'worker', 2), 'task.index=2: must be 0 to 1 of worker'),
        (_config(JOBS, 'worker', -1), 'task.index=-1'),
        (_config(JOBS, 'worker', True), 'task.index=True'),
        (_config(JOBS, 'worker', 'first'), "task.index='first'"),
        (_config(JOBS, 'chief', 1), 'task.index=1: must be 0$'),
    ],
)
def test_a_wrong_cluster_is_told_in_one_line(monkeypatch, value, message):
    _set(monkeypatch, value)
    with pytest.raises(ValueError, match=message) as caught:
        cluster.from_environment()
    assert len(str(caught.value)) < 300


def test_a_cluster_is_hidden_for_a_while_only(monkeypatch):
    _set(monkeypatch, '{}')
    with pytest.raises(KeyError), cluster.hidden():
        os.environ['TF_CONFIG']
    assert os.environ['TF_CONFIG'] == '{}'
    monkeypatch.delenv('TF_CONFIG')
    with cluster.hidden():
        pass
    assert 'TF_CONFIG' not in os.environ


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('none', _config(JOBS, 'chief'), 'names 3 processes, each of which would train on its own'),
        ('mirrored', _config(JOBS, 'chief'), '--strategy=multi_worker or parameter_server'),
        ('multi_worker', _config(SERVERS, 'chief'), 'has no use for the ps'),
        ('multi_worker', _config(JOBS, 'evaluator'), 'the chief evaluates'),
        ('multi_worker', _config({**JOBS, 'evaluator': ['d:1']}, 'chief'), 'the chief evaluates'),
        ('parameter_server', '', 'needs a chief and a ps in TF_CONFIG'),
        ('parameter_server', _config(JOBS, 'chief'), 'needs a chief and a ps'),
        ('parameter_server', _config({'worker': ['a:1'], 'ps': ['b:1']}, 'ps'), 'needs a chief'),
    ],
)
def test_a_cluster_that_does_not_suit_the_strategy_is_refused(monkeypatch, name, value, message):
    _set(monkeypatch, value)
    with pytest.raises(ValueError, match=message):
        strategies.find_cluster(name)


@pytest.mark.parametrize('value', ['', '{}', _config({'chief': ['a:1']}, 'chief')])
def test_a_cluster_of_one_is_none(monkeypatch, value):
    _set(monkeypatch, value)
    assert strategies.find_cluster('none') is None
    assert strategies.start('multi_worker').replicas == 1  # mirrored over the one CPU
    assert 'TF_CONFIG' not in os.environ


def test_a_rehearsal_does_not_wait_for_other_processes(monkeypatch):
    strategies.check_rehearsal('multi_worker')
    _set(monkeypatch, _config(JOBS, 'chief'))
    with pytest.raises(ValueError, match='--dry_run.*names 3 processes'):
        strategies.check_rehearsal('multi_worker')


def test_parameter_servers_train_one_network():
    several = strategies.Distribution(None, Cluster(SERVERS, 'chief', 0))
    several.check_networks(['all'])
    with pytest.raises(ValueError, match='one network, not blouse, skirt'):
        several.check_networks(['blouse', 'skirt'])
    strategies.Distribution(None, Cluster(JOBS, 'chief', 0)).check_networks(['blouse', 'skirt'])


def test_weights_are_not_averaged_where_others_move_them_meanwhile():
    servers = strategies.Distribution(None, Cluster(SERVERS, 'chief', 0))
    servers.check_averaging('none')
    with pytest.raises(ValueError, match="averaging.kind='ema'.*--average_last"):
        servers.check_averaging('ema')
    strategies.Distribution(None, Cluster(JOBS, 'chief', 0)).check_averaging('ema')


@pytest.mark.parametrize('field', ['accumulate', 'lookahead_steps'])
def test_updates_are_not_counted_where_workers_do_not_wait_for_each_other(field):
    config = OptimizerConfig(**{field: 2})
    servers = strategies.Distribution(None, Cluster(SERVERS, 'chief', 0))
    servers.check_optimizer(OptimizerConfig())
    with pytest.raises(ValueError, match=f'optimizer.{field}=2: with --strategy=parameter_server'):
        servers.check_optimizer(config)
    strategies.Distribution(None, Cluster(JOBS, 'chief', 0)).check_optimizer(config)


def test_updates_of_several_operations_are_refused_where_workers_do_not_wait_for_each_other():
    config = OptimizerConfig(name='tfa/LAMB')
    with pytest.raises(ValueError, match="optimizer.name='tfa/LAMB': an update of it reads"):
        strategies.Distribution(None, Cluster(SERVERS, 'chief', 0)).check_optimizer(config)
    strategies.Distribution(None, Cluster(JOBS, 'chief', 0)).check_optimizer(config)


def test_cpus_are_divided_for_mirrored_only():
    with pytest.raises(ValueError, match='--logical_cpus=2: is for --strategy=mirrored only'):
        strategies.start('none', logical_cpus=2)


def test_who_is_alone_agrees_with_itself(tmp_path):
    alone = EarlyStopSignal(str(tmp_path))
    alone.await_turn()
    alone.forget_after(0)
    alone.remove_copies()
    assert alone.settle(5, lambda: ['enough']) == ['enough']
    assert not list(tmp_path.iterdir())


@pytest.fixture
def chief_and_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(early_stop_signal, '_SECONDS', 0.01)
    return tuple(
        EarlyStopSignal(str(tmp_path), Cluster(SERVERS, job, 0)) for job in ('chief', 'worker')
    )


def _later(function, *arguments):
    """Return the result of a call in a thread, as a list that fills."""
    results = []
    threading.Thread(target=lambda: results.append(function(*arguments)), daemon=True).start()
    time.sleep(0.05)
    return results


def _await(results):
    deadline = time.monotonic() + 20
    while not results and time.monotonic() < deadline:
        time.sleep(0.01)
    return results


def test_the_others_wait_for_the_word_of_the_chief(chief_and_worker):
    chief, worker = chief_and_worker
    assert chief.settle(10, list) == []
    # At its own pace it may come late: the chief has gone on.
    assert _await(_later(worker.settle, 9, pytest.fail)) == [[]]
    heard = _later(worker.settle, 20, pytest.fail)
    assert heard == []
    chief.settle(20, lambda: ['no progress'])
    assert _await(heard) == [['no progress']]


def test_the_word_of_a_later_step_is_taken_back(chief_and_worker):
    chief, worker = chief_and_worker
    chief.settle(20, lambda: ['no progress'])
    worker.forget_after(10)  # not its to take
    chief.forget_after(20)
    assert worker.settle(20, pytest.fail) == ['no progress']
    chief.forget_after(19)
    assert _later(worker.settle, 20, pytest.fail) == []
    chief.settle(20, list)


def test_a_word_that_is_being_written_is_read_again(chief_and_worker, tmp_path):
    chief, worker = chief_and_worker
    (tmp_path / early_stop_signal.FILE).write_text('{"step": 1')
    heard = _later(worker.settle, 1, pytest.fail)
    assert heard == []
    chief.settle(1, list)
    assert _await(heard) == [[]]


def test_a_worker_begins_when_the_servers_have_weights(chief_and_worker, tmp_path):
    chief, worker = chief_and_worker
    chief.await_turn()
    turn = _later(worker.await_turn)
    assert turn == []
    (tmp_path / 'model.ckpt-0.index').write_bytes(b'')
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-0"\n')
    assert _await(turn) == [None]


def test_a_worker_removes_its_own_copies_only(chief_and_worker, tmp_path):
    for name in ('tmp_worker_0', 'tmp_worker_1', 'tmp_chief_0'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'model.ckpt-0.index').write_bytes(b'')
    for one in chief_and_worker:
        one.remove_copies()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['tmp_chief_0', 'tmp_worker_1']


def test_the_watchdog_ends_a_process_that_stands_still():
    left = []
    minutes = 0.2 / 60
    watchdog = Watchdog(minutes, lambda: left.append(time.monotonic()))
    for _ in range(8):
        watchdog.after_run(None, None)
        time.sleep(0.05)
    last, began = len(left), time.monotonic()
    assert _await(left) and not last
    assert left[0] - began > 0.1


def test_a_watchdog_that_was_stopped_ends_nothing():
    left = []
    Watchdog(0.05 / 60, lambda: left.append(1)).stop()
    time.sleep(0.2)
    assert not left
