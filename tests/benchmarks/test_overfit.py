"""Benchmarks: FLOPs against sums of ones, fair turns, processes that fail, tables in pieces."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

import nets
from benchmarks import networks, overfit
from benchmarks.common import interleaved, isolated, ledger, recipes
from benchmarks.common.interleaved import Run
from benchmarks.common.multiplications import count_flops
from config import Experiment, NetworkConfig
from utility.statistics.medians import summarize

v1 = tf.compat.v1


def _conv(**kwargs):
    return lambda image, kernel: tf.nn.conv2d(image, kernel, padding='VALID', **kwargs)


def _depthwise(image, kernel):
    return tf.nn.depthwise_conv2d(image, kernel, [1, 2, 2, 1], 'VALID')


def _deconv(image, kernel):
    return tf.nn.conv2d_transpose(image, kernel, [2, 11, 11, 3], 2, 'VALID')


OPERATIONS = {
    'conv': (_conv(strides=1), [2, 7, 7, 6], [3, 3, 6, 4]),
    'strided': (_conv(strides=2), [2, 7, 7, 6], [3, 3, 6, 4]),
    'dilated': (_conv(strides=1, dilations=2), [2, 7, 7, 6], [3, 3, 6, 4]),
    'grouped': (_conv(strides=2), [2, 7, 7, 6], [3, 3, 3, 4]),
    'depthwise': (_depthwise, [2, 7, 7, 6], [3, 3, 6, 2]),
    'deconv': (_deconv, [2, 5, 5, 4], [3, 3, 3, 4]),
    'matrix': (tf.matmul, [5, 4], [4, 3]),
    'transposed': (lambda a, b: tf.matmul(a, b, transpose_a=True), [4, 5], [4, 3]),
    'batch': (tf.matmul, [2, 5, 4], [2, 4, 3]),
    'batch, transposed': (lambda a, b: tf.matmul(a, b, True, True), [2, 4, 5], [2, 3, 4]),
}


@pytest.mark.parametrize('name', OPERATIONS)
def test_flops_are_twice_the_sum_over_ones(name):
    """Of ones, each product is 1, and without padding the sum of the results counts them all. The
    gradient of that sum by either operand, times the operand, counts them all again."""
    operation, *shapes = OPERATIONS[name]
    with tf.Graph().as_default(), v1.Session() as session:
        operands = [v1.placeholder_with_default(tf.ones(shape), shape) for shape in shapes]
        result = operation(*operands)
        products = int(session.run(tf.reduce_sum(result)))
        forward = sum(count_flops(result).values())
        gradients = tf.gradients(result, operands)
        counts = [session.run(tf.reduce_sum(gradient)) for gradient in gradients]
        both = sum(count_flops(result, *gradients).values())
    assert forward == 2 * products > 0
    assert counts == [products, products]
    assert both == 3 * forward


@pytest.mark.parametrize(
    ('backbone', 'gigaflops'),
    [
        # Multiply-adds as torchvision publishes them, at 224 px, with a classifier of 1000 classes.
        ('resnet18', 2 * 1.814),
        ('resnet50', 2 * 4.089),
    ],
)
def test_flops_of_backbones_are_the_published_ones(backbone, gigaflops):
    with tf.Graph().as_default():
        features = nets.BACKBONES.get(backbone)()(tf.zeros([1, 224, 224, 3]), False)
        flops = sum(count_flops(features['C5']).values()) + 2 * features['C5'].shape[-1] * 1000
    assert flops == pytest.approx(gigaflops * 1e9, abs=1e6)


def test_flops_are_those_of_what_must_run():
    with tf.Graph().as_default():
        one, other = (tf.matmul(tf.ones([2, 3]), tf.ones([3, n])) for n in (4, 5))
        assert count_flops(one) == {'MatMul': 2 * 2 * 3 * 4}
        assert count_flops(one, other.op, one) == {'MatMul': 2 * 2 * 3 * (4 + 5)}
        with tf.control_dependencies([other]):
            after = tf.identity(one)
        assert count_flops(after) == count_flops(one, other)


def test_flops_that_cannot_be_counted_are_refused():
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, 8, 8, 3])
        unknown = tf.nn.conv2d(images, tf.ones([1, 1, 3, 4]), 1, 'SAME')
        with pytest.raises(ValueError, match=r'Conv2D:0: cannot count FLOPs of the shape \(None'):
            count_flops(unknown)
        product = tf.einsum('ab,bc->ac', tf.ones([2, 3]), tf.ones([3, 4]))
        with pytest.raises(ValueError, match='cannot count the FLOPs of Einsum'):
            count_flops(product)


def _logging(log, name, fails_at=None):
    number = 0
    while True:
        if number == fails_at:
            raise isolated.FailedError(f'{name} is broken')
        log.append(name)
        yield number
        number += 1


def test_members_take_turns_and_every_other_round_is_reversed():
    log = []
    members = {name: _logging(log, name) for name in 'abc'}
    taken, failures = interleaved.interleave(members, 3, 60.0)
    assert ''.join(log) == 'abccbaabc'
    assert taken == {name: [0, 1, 2] for name in 'abc'}
    assert failures == {}


def test_members_that_fail_or_have_no_time_left_drop_out():
    log = []
    members = {'a': _logging(log, 'a', fails_at=1), 'b': _logging(log, 'b')}
    taken, failures = interleaved.interleave(members, 3, 60.0)
    assert ''.join(log) == 'abbb'
    assert taken == {'b': [0, 1, 2]}
    assert failures == {'a': 'a is broken'}
    # Each is asked once.
    taken, _ = interleaved.interleave({'c': _logging(log, 'c')}, 3, 0.0)
    assert taken == {'c': [0]}


def test_summary_is_median_and_half_the_distance_of_the_quartiles():
    assert summarize([5.0, 1.0, 2.0, 100.0, 3.0]) == (3.0, 1.5, 5)
    assert summarize([4.0]) == (4.0, 0.0, 1)


def test_the_reference_is_measured_before_and_after_each_action():
    rates = iter([10.0, 20.0, 40.0])
    log = []
    actions = {'a': lambda: log.append('a'), 'b': lambda: time.sleep(0.02)}
    runs = interleaved.beside_reference(actions, lambda: log.append('r') or next(rates))
    assert log == ['r', 'a', 'r', 'r']
    assert [run.reference for run in runs.values()] == [15.0, 30.0]
    assert runs['a'].seconds < 0.02 <= runs['b'].seconds


def test_the_matrix_product_has_a_rate_in_the_range_of_computers():
    assert 1e8 < interleaved.matrix_product()() < 1e15


def test_a_remote_gives_what_is_yielded_in_another_process():
    remote = isolated.Remote(map, abs, [-1, 2])
    assert list(remote) == [1, 2]
    remote.close()
    remote = isolated.Remote(iter, os.getpid, None)
    first, second = next(remote), next(remote)
    remote.close()
    assert first == second != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.parametrize(
    ('function', 'arguments', 'message'),
    [
        (int, [7, 'no\ngood'], '^ValueError: invalid literal for int'),
        (os._exit, [3], '^ended with exit code 3$'),
        (signal.raise_signal, [signal.SIGKILL], r'^killed by SIGKILL \(out of memory\)$'),
        (signal.raise_signal, [signal.SIGSEGV], '^killed by SIGSEGV$'),
    ],
)
def test_the_failure_of_a_remote_is_told_in_one_line(function, arguments, message):
    remote = isolated.Remote(map, function, arguments)
    with pytest.raises(isolated.FailedError, match=message) as caught:
        list(remote)
    remote.close()
    assert '\n' not in str(caught.value)


def test_memory_is_read_in_gib():
    free, total = isolated.available_memory()
    assert 0 < isolated.peak_memory() < total < 1e5
    assert 0 < free < total


def test_recipes_are_chosen_by_script_or_by_name():
    assert recipes.select(['train_resnet50_cpn.py', 'resnet18_dhn']) == [
        'resnet50_cpn',
        'resnet18_dhn',
    ]
    assert recipes.select([]) == recipes.names()
    with pytest.raises(ValueError, match=r"unknown recipe 'resnet50_cpm'.*mean 'resnet50_cpn'"):
        recipes.select(['train_resnet50_cpm.py'])


def test_resized_experiments_keep_the_ratio_and_all_else():
    experiment = recipes.load('resnet50_cpn')
    small = recipes.resized(experiment, 64)
    assert (small.network.image_size, small.network.heatmap_size) == ((64, 64), (16, 16))
    assert [line.split(':')[0] for line in small.differences(experiment)] == [
        'network.heatmap_size',
        'network.image_size',
    ]
    with pytest.raises(ValueError, match=r'image_size=66: must keep the ratio of \(96, 96\) cells'):
        recipes.resized(experiment, 66)


def test_a_ledger_keeps_rows_for_the_next_run(tmp_path):
    path, experiment = str(tmp_path / 'new' / 'rows.json'), Experiment()
    book = ledger.Ledger(path, {'batch_size': 2})
    assert book.is_missing('a', experiment)
    book.add('a', experiment, {'value': 1})
    book.add('b', experiment, {ledger.FAILURE: 'killed'})
    book = ledger.Ledger(path, {'batch_size': 2})
    assert book.rows['a']['value'] == 1
    assert not book.is_missing('a', experiment)
    assert book.is_missing('a', experiment.override('network.head=dhn'))
    assert book.is_missing('b', experiment)
    with pytest.raises(ValueError, match="was made with {'batch_size': 2}, not with {'batch_"):
        ledger.Ledger(path, {'batch_size': 3})


@pytest.mark.parametrize('text', ['', '[]', '{}', json.dumps({'rows': {}})])
def test_a_ledger_refuses_other_files(tmp_path, text):
    path = tmp_path / 'rows.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'rows\.json: is not a file of this command'):
        ledger.Ledger(str(path), {})


def test_a_table_in_markdown():
    assert (
        ledger.markdown_table(('a', 'b'), [('1', '2')]) == '| a | b |\n| --- | ---: |\n| 1 | 2 |\n'
    )


OPTIONS = networks.Options(batch_size=2, image_size=64, repeats=2, max_seconds=1.0, together=2)


@pytest.fixture(scope='module')
def measured():
    """Facts of resnet18_dhn at 64 px, and a round of measurements."""
    measurements = networks.measurements('resnet18_dhn', OPTIONS)
    return next(measurements), next(measurements)


def test_measured_are_the_parameters_and_flops_of_the_network(measured):
    facts, (runs, memory) = measured
    with tf.Graph().as_default():
        config = NetworkConfig('resnet18', 'dhn', (64, 64), (16, 16))
        network = nets.build_network(config, 24)
        outputs = network(tf.zeros([1, 64, 64, 3]), False)
        assert facts['parameters'] == nets.num_parameters(network)
        forward = 2 * sum(count_flops(*outputs).values())
    assert facts['flops']['infer'] == forward
    # The gradients take twice the same, but for that by the pictures: no one asks for it.
    stem = 2 * (2 * 32 * 32) * (7 * 7 * 3 * 64)
    assert facts['flops']['train'] == 3 * forward - stem
    assert 0 < runs['infer'].seconds < runs['train'].seconds
    assert 0.1 < memory < isolated.available_memory()[1]


def test_networks_become_a_table(measured):
    facts, _ = measured
    rounds = [
        ({'train': Run(seconds, 4e9), 'infer': Run(seconds / 4, 2e9)}, memory)
        for seconds, memory in ((1.0, 3.0), (2.0, 2.0), (3.0, 1.0))
    ]
    facts = {**facts, 'flops': {'train': 4e9, 'infer': 1e9}, 'parameters': 2_345_678}
    rows = {'x': {**facts, **networks._timings(facts, rounds)}, 'y': {ledger.FAILURE: 'killed'}}
    table, _ = networks.page(rows, OPTIONS).split(networks.variants())
    cells = [line.strip('| ').split(' | ') for line in table.splitlines() if line]
    assert cells[-2] == [
        'x', 'resnet18', 'dhn', '64 x 64', '16 x 16', '2.35', '0.5',
        '2.00 ± 0.50', '1.00', '50%', '250 ± 62', '100%', '3.0',
    ]  # fmt: skip
    assert cells[-1][:2] == ['y', 'killed']


def test_garments_are_letter_boxed_with_their_points():
    images, labels = overfit.garments(64)
    assert (images.shape, images.dtype) == ((4, 64, 64, 3), np.uint8)
    visible = labels['keypoints'][labels['visibility'] == 1]
    assert len(visible) > 20
    assert 0 < visible.min() < visible.max() < 64
    again, _ = overfit.garments(64)
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) == 4


def test_networks_that_did_not_learn_are_told():
    options = overfit.Options(fall=100.0)
    row = {'first_loss': 1.0, 'last_loss': 0.01}
    assert overfit.has_learnt(row, options)
    assert not overfit.has_learnt({**row, 'last_loss': 0.011}, options)
    assert not overfit.has_learnt({ledger.FAILURE: 'killed'}, options)


def test_a_network_overfits_until_its_loss_has_fallen():
    row = overfit.train('resnet18_dhn', overfit.Options(fall=10.0, max_steps=60))
    assert row['size'] == 64
    assert 1 < row['steps'] < 60
    assert 10 * row['last_loss'] <= row['first_loss']
    row = overfit.train('resnet18_dhn', overfit.Options(fall=1e9, max_steps=2))
    assert row['steps'] == 2
