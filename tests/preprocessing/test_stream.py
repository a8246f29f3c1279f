"""The stream of records: complete epochs, the same wherever a training begins, in any shares."""

from __future__ import annotations

import collections
import itertools

import hypothesis
import hypothesis.strategies as st
import pytest
import tensorflow as tf

from preprocessing import stream
from preprocessing.stream import Order

# Records of each file of a data set.
DATA_SETS = {'one': (7,), 'uneven': (1, 9, 3), 'many': (2,) * 5}


@pytest.fixture(scope='module')
def data_sets(tmp_path_factory):
    """Name -> files, whose records are '<file>/<number>'."""
    root = tmp_path_factory.mktemp('stream')
    files = collections.defaultdict(list)
    for name, counts in DATA_SETS.items():
        for number, count in enumerate(counts):
            files[name].append(str(root / f'{name}{number}'))
            with tf.io.TFRecordWriter(files[name][-1]) as writer:
                for i in range(count):
                    writer.write(f'{number}/{i}'.encode())
    return files


def read(files, count, seed=0, order=None, batch_size=1, context=None):
    """Return the first `count` (place in the stream, record)."""
    order = order or Order(shuffle_buffer=4)
    dataset = stream.shuffled(files, seed, order, batch_size, context).take(count)
    return [(int(index), record.decode()) for index, record in dataset.as_numpy_iterator()]


def context_of(pipelines, position, replicas):
    return tf.distribute.InputContext(pipelines, position, pipelines * replicas)


def names_of(name):
    return sorted(f'{i}/{j}' for i, count in enumerate(DATA_SETS[name]) for j in range(count))


@pytest.mark.parametrize('name', DATA_SETS)
@pytest.mark.parametrize('shuffle_buffer', [1, 3, 100])
def test_an_epoch_holds_every_record_once_in_an_order_of_its_own(data_sets, name, shuffle_buffer):
    size = sum(DATA_SETS[name])
    read_in_all = read(data_sets[name], 4 * size, order=Order(shuffle_buffer))
    assert [index for index, _ in read_in_all] == list(range(4 * size))
    epochs = [[r for _, r in read_in_all[i * size : (i + 1) * size]] for i in range(4)]
    assert [sorted(epoch) for epoch in epochs] == [names_of(name)] * 4
    # A single file cannot be mixed without a buffer.
    if name != 'one' or shuffle_buffer > 1:
        assert len(set(map(tuple, epochs))) > 1 and epochs[0] != names_of(name)


def test_each_seed_gives_an_order_of_its_own(data_sets):
    orders = {tuple(read(data_sets['uneven'], 13, seed)) for seed in (0, 1, 2**30)}
    assert len(orders) == 3
    assert read(data_sets['uneven'], 26, 5) == read(data_sets['uneven'], 26, 5)


@hypothesis.settings(max_examples=10)
@hypothesis.given(
    name=st.sampled_from(sorted(DATA_SETS)),
    seed=st.integers(0, 2**31 - 1),
    shuffle_buffer=st.integers(1, 20),
    batch_size=st.integers(1, 5),
    step=st.integers(0, 12),
    pipelines=st.integers(1, 3),
    replicas=st.integers(1, 2),
)
def test_a_start_at_any_step_goes_on_with_the_same_stream(
    data_sets, name, seed, shuffle_buffer, batch_size, step, pipelines, replicas
):
    """Of any pipeline: its share of the whole stream, from that step on."""
    size, files = sum(DATA_SETS[name]), data_sets[name]
    order = Order(shuffle_buffer, size, step)
    begin, count = step * batch_size * replicas * pipelines, 2 * size
    whole = read(files, begin + pipelines * count, seed, Order(shuffle_buffer))
    for position in range(pipelines):
        context = context_of(pipelines, position, replicas)
        share = read(files, count, seed, order, batch_size, context)
        assert share == whole[begin + position :: pipelines]


@pytest.mark.parametrize('pipelines', [2, 3])
def test_shares_of_every_epoch_are_disjoint_and_complete(data_sets, pipelines):
    """Although no epoch of 13 records divides by them."""
    epochs = collections.defaultdict(list)
    for position in range(pipelines):
        share = read(data_sets['uneven'], 39, context=context_of(pipelines, position, 1))
        for index, record in share:
            epochs[index // 13].append(record)
    assert [sorted(epochs[i]) for i in range(3)] == [names_of('uneven')] * 3


@pytest.mark.parametrize(('pipelines', 'replicas'), [(1, 2), (2, 1), (3, 2)])
def test_a_step_of_all_replicas_consumes_the_global_batch_of_one_device(
    data_sets, pipelines, replicas
):
    batch_size, num_steps, files = 2, 5, data_sets['uneven']
    shares = [
        read(files, num_steps * replicas * batch_size, 3, None, batch_size, context)
        for context in (context_of(pipelines, i, replicas) for i in range(pipelines))
    ]
    size = pipelines * replicas * batch_size
    single = read(files, num_steps * size, 3)
    for step in range(num_steps):
        own = slice(step * replicas * batch_size, (step + 1) * replicas * batch_size)
        together = sorted(itertools.chain.from_iterable(share[own] for share in shares))
        assert together == single[step * size : (step + 1) * size]


def test_the_order_does_not_depend_on_the_seed_of_the_graph(data_sets):
    expected = read(data_sets['uneven'], 20, seed=0)
    for graph_seed in (None, 0, 7):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.random.set_seed(graph_seed)
            dataset = stream.shuffled(data_sets['uneven'], 0, Order(shuffle_buffer=4), 1)
            following = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
            rows = [session.run(following) for _ in range(20)]
            assert tf.compat.v1.get_default_graph().seed == graph_seed
        assert [(index, record.decode()) for index, record in rows] == expected


@pytest.fixture(scope='module')
def unequal(tmp_path_factory):
    """Two files of 900 and 300 records, 'many/<number>' and 'few/<number>'."""
    root, files = tmp_path_factory.mktemp('unequal'), []
    for name, count in (('many', 900), ('few', 300)):
        files.append(str(root / name))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for i in range(count):
                writer.write(f'{name}/{i}'.encode())
    return files


@pytest.mark.parametrize('shuffle_buffer', [1, 64, 2000])
def test_every_part_of_an_epoch_holds_its_share_of_every_file(unequal, shuffle_buffer):
    """A quarter of the records are of the smaller file: of 100 in a row, 25 with a standard
    deviation of at most 4.2, that of a uniform order."""
    records = [record for _, record in read(unequal, 3600, order=Order(shuffle_buffer))]
    for start in range(0, 3600, 100):
        few = sum(record.startswith('few') for record in records[start : start + 100])
        assert abs(few - 25) <= 17, (start, few)


@pytest.mark.parametrize('shuffle_buffer', [1, 64])
def test_no_record_always_comes_early_in_an_epoch(unequal, shuffle_buffer):
    """The mean place of a record over 30 epochs, as a share of the epoch, is 0.5 with a standard
    deviation of 0.053."""
    number = 1200
    places = collections.defaultdict(list)
    for index, record in read(unequal, 30 * number, order=Order(shuffle_buffer)):
        places[record].append(index % number / number)
    means = [sum(found) / len(found) for found in places.values()]
    assert len(means) == number and min(means) > 0.2 and max(means) < 0.8


def test_more_files_than_may_be_open_are_read_all(data_sets, monkeypatch):
    monkeypatch.setattr(stream, 'MAX_OPEN_FILES', 2)
    assert sorted(r for _, r in read(data_sets['many'], 10)) == names_of('many')


@pytest.mark.parametrize('number', [12, 14])
def test_another_number_of_records_than_told_is_an_error_when_it_shows(data_sets, number):
    with pytest.raises(tf.errors.FailedPreconditionError, match=f'expected to contain .*{number}'):
        read(data_sets['uneven'], 14, order=Order(4, number))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'shuffle_buffer': 0}, 'shuffle_buffer=0: must be at least 1'),
        ({'num_records': 0}, 'num_records=0: must be at least 1'),
        ({'num_records': 5, 'start_step': -1}, 'start_step=-1: must be at least 0'),
        ({'start_step': 3}, 'start_step=3: needs num_records'),
    ],
)
def test_mistakes_in_an_order_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        Order(**arguments)
