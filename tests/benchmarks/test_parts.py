"""The parts of `python -m benchmarks`: data, commands, growth; and the model on paper."""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import (
    commands,
    conversion,
    isolated,
    scale,
    scaling,
    startup,
    submissions,
    synthetic_data,
)
from benchmarks.commands import Cost
from benchmarks.scaling import Gpu, Network, Place
from preprocessing.datasets import DATASETS
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import read_table
from tests import tiny_records
from tests.test_scripts import call, succeed


def test_copies_of_a_picture_differ_in_their_bytes_only():
    jpeg = synthetic_data.picture(3, 64)
    copies = [synthetic_data.numbered(jpeg, number) for number in (0, 12345)]
    assert len({jpeg, *copies}) == 3
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (jpeg, *copies)]
    assert pixels[0].shape == (64, 64, 3)
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[0], pixels[2])


def test_large_pictures_have_the_size_of_those_of_the_challenge():
    assert 65_000 < len(synthetic_data.picture(0, 512)) < 85_000


def test_the_data_set_has_the_layout_of_the_challenge(tmp_path):
    synthetic_data.write(str(tmp_path), 20, 32)
    (split,) = DATASETS.get('fashionai').find_splits(str(tmp_path))
    annotations = list(split.annotations())
    assert split.labelled and len(annotations) == 20
    assert {one.category for one in annotations} == set(SCHEMA.categories)
    contents = {pathlib.Path(one.image_path).read_bytes() for one in annotations}
    assert len(contents) == 20
    points = np.stack([one.keypoints for one in annotations])
    visible = np.stack([one.visibility for one in annotations]) >= 0
    assert (points[visible] > 0).all() and (points[visible] < 32).all()


def test_predictions_keep_the_rules_and_are_as_far_off_as_they_should(tmp_path):
    submissions.write_csvs(str(tmp_path), 200, 2, 512)
    answers = read_table(tmp_path / 'answers.csv', SCHEMA)
    predicted = read_table(tmp_path / '1.csv', SCHEMA)
    visible = answers.visibility == 1
    offsets = (predicted.keypoints - answers.keypoints)[visible]
    assert offsets.std() == pytest.approx(6, rel=0.1)
    lines = submissions.command_lines(str(tmp_path), 2)
    assert lines.keys() >= submissions._TARGETS.keys() - {'mean of 10'}
    for words in lines.values():
        succeed(*words)


def test_sizes_and_samples_of_submissions_are_those_measured():
    notes = ' '.join(submissions._notes(16_400_000))
    assert '54,444 pictures of all categories, 16 MB each' in notes and '2,000 samples' in notes


def test_a_command_is_timed_until_it_ends():
    cost = commands.run('-c', 'import time; x = bytearray(200 << 20); time.sleep(0.1); print(7)')
    assert 0.1 < cost.seconds < 30
    assert 0.2 < cost.memory < 2
    assert cost.out == '7\n'
    with pytest.raises(isolated.FailedError, match='-c .*: exit code 3: no'):
        commands.run('-c', 'import sys; print("no", file=sys.stderr); sys.exit(3)')


def test_a_command_is_timed_until_it_says_something():
    say = 'import sys, time; print("step 1/7", file=sys.stderr, flush=True)'
    assert 0 < commands.seconds_until('step 1/', '-c', f'{say}; time.sleep(100)') < 30
    with pytest.raises(isolated.FailedError, match="ends before 'step 2/': step 1/7"):
        commands.seconds_until('step 2/', '-c', say)


def test_conversions_are_compared_with_a_copy():
    times = {conversion._COPY: 2.0, conversion._DECODE: 5.0}
    times.update(zip(conversion._WAYS, (8.0, 4.0)))
    taken = {name: [Cost(s, 0.25, ''), Cost(s, 0.5, '')] for name, s in times.items()}
    table = conversion.table(taken, 71_600)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows['conversion, 1 process'] == ('8.00 ± 0.00', '1000', '4.0', '0.50')
    assert rows['conversion, 2 processes'] == ('4.00 ± 0.00', '2000', '2.0', '0.50')
    assert ', 72 kB each' in table.notes[0]
    assert 'writes 1000 pictures of 512 px a second by one process, 2000 by two.' in table.in_short
    json.dumps(dict(table.numbers))


def test_growth_is_told_by_its_exponent():
    start, sizes = 2.0, np.array(scale.SIZES, float)
    for power in (1, 2):
        seconds = start + 1e-4 * sizes**power
        assert scale.exponent(list(seconds)) == pytest.approx(power, abs=0.02)
    assert scale.kilobytes_each([0.0, 0.0, 1.0, 1.0 + 40_000 * 5e3 / 2**30]) == pytest.approx(5)


def test_what_does_not_scale_is_told():
    def row(power, held):
        return [Cost(1 + 1e-4 * n**power, 1 + held * n / 2**30, '') for n in scale.SIZES]

    seconds, memory = scale.tables({'good': row(1, 9e3), 'bad': row(1.5, 11e3)})
    assert [line[-1] for line in seconds.rows] == ['yes', '**no**']
    assert seconds.rows[0][1:7] == ['1.0', '1.1', '2.0', '6.0', '10,000', '1.01']
    assert [line[-1] for line in memory.rows] == ['yes', '**no**']
    assert memory.rows[0][5] == '9.0'
    json.dumps(dict(seconds.numbers))


def test_the_rest_of_a_start_is_what_the_phases_do_not_tell():
    rounds = [dict.fromkeys((*startup._BEFORE, *startup._LATER), 1.0)] * 3
    column = startup._column([10.0, 11.0, 12.0], rounds)
    assert column[startup._WHOLE].median == 11.0
    assert column[startup._REST].median == 11.0 - len(startup._BEFORE)


@pytest.mark.slow
def test_the_phases_of_a_start_are_timed(tmp_path):
    counts = dict.fromkeys(SCHEMA.categories, 4)
    data_dir = tiny_records.write_records(tmp_path, {'train': counts, 'val': counts}, 64)
    (phases,) = startup.phases('resnet18_dhn', data_dir)
    assert list(phases) == [*startup._BEFORE, *startup._LATER]
    assert all(seconds >= 0 for seconds in phases.values())
    assert phases['second step'] < phases['first step'] < 100


NETWORK = Network('n', parameters=25e6, flops=50e9)
GPU = Gpu('g', 150e12, 'float16')


def test_the_limits_of_a_training_by_hand():
    # 10 pictures of 150 GFLOPs at 75 TFLOP/s take 20 ms.
    alone = scaling.limit(NETWORK, GPU, Place('p', 1, 1, 10, 0.0), 100.0, 10, 0.5)
    assert alone.devices == pytest.approx(500)
    assert (alone.efficiency, alone.host, alone.limited_by) == (1.0, 1000.0, 'GPUs')
    # A ring of 4 sends 2 * 3/4 * 100 MB: 15 ms at 10 GB/s.
    four = scaling.limit(NETWORK, GPU, Place('p', 1, 4, 10, 10e9), 100.0, 10, 0.5)
    assert four.devices == pytest.approx(40 / 0.035)
    assert four.efficiency == pytest.approx(20 / 35)
    assert (four.limited_by, four.rate) == ('host', 1000.0)
    # Between two machines: 2 * 1/2 * 100 MB; each reads all.
    two = scaling.limit(NETWORK, GPU, Place('p', 2, 8, 99, 10e9), 1e3, 10, 0.5)
    assert two.devices == pytest.approx(160 / 0.030)
    assert two.host == 2 * 99 * 1e3
    fast = scaling.limit(NETWORK, GPU, Place('p', 2, 99, 99, 1e15), 1e3, 10, 0.5)
    assert (fast.limited_by, fast.rate) == ('storage', pytest.approx(1e9 / 74e3))


@pytest.fixture
def measured(tmp_path):
    """Files of measurements as `python -m benchmarks` and `benchmarks.networks` write them."""
    rates = {'decoding alone': 1980, '--augment_on=host': 400, '--augment_on=device': 1600}
    numbers = {name: {'rates': [rate, rate + 20, 1.0]} for name, rate in rates.items()}
    parts = {'input_pipeline': {'tables': [{'numbers': numbers}]}}
    path = tmp_path / 'speed.json'
    path.write_text(json.dumps({'machine': 'A processor, 4 cores, 8 GiB', 'parts': parts}))
    return path


def test_rates_are_medians_of_a_core(measured):
    assert scaling.read_rates(str(measured)) == (495, 100, 400, 4)


def test_the_model_is_a_page(measured):
    flags = f'--measurements={measured}', '--share=0.5'
    page = succeed('benchmarks/scaling_model.py', *flags).out
    assert f'Made by `python -m benchmarks.scaling_model {" ".join(flags)}`.' in page
    assert 'It prepares 100 a' in page and 'what 4 cores did' in page
    assert '| resnet50_cpn | A100 | eight machines of eight |' in page
    # Beside each 3 x 40,000 that are trained on 1 or 8 GPUs 10,000 are evaluated on one.
    assert 'takes 8% of' in page and '40% on eight GPUs' in page


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('"parts"', '"part"'),
        ('{', '['),
        ('machine', 'machine\xff'),
        ('4 cores', 'cores'),
        ('4 cores', '0 cores'),
        ('[400, 420, 1.0]', '[]'),
        ('[400, 420, 1.0]', '["400"]'),
        ('[400, 420, 1.0]', '[0]'),
        ('[400, 420, 1.0]', '[NaN]'),
    ],
)
def test_measurements_without_input_are_refused(measured, old, new):
    text = measured.read_text()
    assert old in text
    measured.write_bytes(text.replace(old, new).encode('latin-1'))
    result = call('benchmarks/scaling_model.py', f'--measurements={measured}')
    assert result.code == 2
    assert 'holds no training input; make it with `python -m benchmarks --output=' in result.err


def test_networks_are_read_from_their_table(tmp_path):
    path = tmp_path / 'networks.md'
    header = '| recipe | GFLOPs | parameters, M |\n| --- | ---: | ---: |\n'
    path.write_text(
        f'# Networks\n\n{header}| a | 2.5 | 30.10 |\n| b | killed |  |\n| d | 0 | 1 |\n'
    )
    assert scaling.read_networks(str(path), ['a']) == [('a', 30.1e6, 2.5e9)]
    for name in ('b', 'c', 'd'):
        with pytest.raises(ValueError, match=f'has no numbers of {name}'):
            scaling.read_networks(str(path), [name])
