"""The parts of `python -m benchmarks`: data, commands, growth."""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.common import commands, isolated, synthetic_data
from benchmarks.common.commands import Cost
from benchmarks.speed import conversion, scale, startup, submissions
from preprocessing.datasets import DATASETS
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import read_table
from tests import tiny_records
from tests.test_scripts import succeed


def test_copies_of_a_picture_differ_in_their_bytes_only():
    jpeg = synthetic_data.draw_jpeg(3, 64)
    copies = [synthetic_data.numbered(jpeg, number) for number in (0, 12345)]
    assert len({jpeg, *copies}) == 3
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (jpeg, *copies)]
    assert pixels[0].shape == (64, 64, 3)
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[0], pixels[2])


def test_large_pictures_have_the_size_of_those_of_the_challenge():
    assert 65_000 < len(synthetic_data.draw_jpeg(0, 512)) < 85_000


def test_the_data_set_has_the_layout_of_the_challenge(tmp_path):
    synthetic_data.write(str(tmp_path), 20, 32)
    (split,) = DATASETS.get('fashionai').find_splits(str(tmp_path))
    annotations = list(split.annotations())
    assert split.labelled and len(annotations) == 20
    assert {annotation.category for annotation in annotations} == set(SCHEMA.categories)
    contents = {pathlib.Path(annotation.image_path).read_bytes() for annotation in annotations}
    assert len(contents) == 20
    points = np.stack([annotation.keypoints for annotation in annotations])
    visible = np.stack([annotation.visibility for annotation in annotations]) >= 0
    assert (points[visible] > 0).all() and (points[visible] < 32).all()


def test_predictions_keep_the_rules_and_are_as_far_off_as_they_should(tmp_path):
    submissions.write_csvs(str(tmp_path), 200, 2, 512)
    annotated = read_table(tmp_path / 'answers.csv', SCHEMA)
    predicted = read_table(tmp_path / '1.csv', SCHEMA)
    visible = annotated.visibility == 1
    offsets = (predicted.keypoints - annotated.keypoints)[visible]
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
    assert 0.2 < cost.memory < 20  # GB; for a moment it is as large as the process of the tests
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
    costs = {name: [Cost(s, 0.25, ''), Cost(s, 0.5, '')] for name, s in times.items()}
    table = conversion.table(costs, 71_600)
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
    assert scale.kilobytes_per_image([0.0, 0.0, 1.0, 1.0 + 40_000 * 5e3 / 2**30]) == pytest.approx(
        5
    )


def test_what_does_not_scale_is_told():
    def row(power, growth):
        return [Cost(1 + 1e-4 * n**power, 1 + growth * n / 2**30, '') for n in scale.SIZES]

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
    assert column[startup._REMAINDER].median == 11.0 - len(startup._BEFORE)


@pytest.mark.slow
def test_the_phases_of_a_start_are_timed(tmp_path):
    counts = dict.fromkeys(SCHEMA.categories, 4)
    data_dir = tiny_records.write_records(tmp_path, {'train': counts, 'val': counts}, 64)
    phases = startup.phases('resnet18_dhn', data_dir)
    assert list(phases) == [*startup._BEFORE, *startup._LATER]
    assert all(seconds >= 0 for seconds in phases.values())
    assert phases['second step'] < phases['first step'] < 100
