"""The costs of other data sets: what is generated, and the tables."""

from __future__ import annotations

import pytest

from benchmarks import data_sets
from benchmarks.common import synthetic_data, tiny_formats
from benchmarks.common.commands import Cost
from preprocessing.datasets import DATASETS, Source
from preprocessing.datasets.fashionai import SCHEMA


def test_both_readers_read_the_same_of_the_generated_pictures(tmp_path):
    synthetic_data.write(str(tmp_path), 12, 32)
    data_sets.write_coco(str(tmp_path), 12)
    _, (expected,) = DATASETS.get('fashionai').open(Source(str(tmp_path)))
    schema, (split,) = DATASETS.get('coco').open(Source(str(tmp_path), SCHEMA))
    pairs = list(zip(split.annotations(), expected.annotations()))
    assert len(pairs) == 12
    for one, same in pairs:
        assert one.fault is None and one.box is not None
        assert (one.image_path, one.category) == (same.image_path, same.category)
        there = same.visibility >= 0
        assert (one.visibility == same.visibility).all()
        assert (one.keypoints[there] == same.keypoints[there]).all()


def test_rates_and_growth_are_of_the_further_items():
    few = {'COCO items': [(3.0, 0.5)], 'FashionAI pictures': [(4.0, 0.5)]}
    many = {'COCO items': [(12.0, 0.6)], 'FashionAI pictures': [(14.0, 0.5)] * 2}
    many['COCO items'] += [(90.0, 0.4), (11.0, 0.5)]  # one was disturbed
    costs = {
        size: {name: [Cost(9.0, gib, '', cpu) for cpu, gib in rows] for name, rows in found.items()}
        for size, found in ((1000, few), (10_000, many))
    }
    page = data_sets.conversion_table(costs)
    assert '| COCO items | 3.0 / 0.50 | 12.0 / 0.60 | 1,000 | 11.9 |' in page
    assert '| COCO, times the rate of FashionAI | 1.11 | at least 1 | yes |' in page
    assert '| COCO, kB a further item | 11.9 | at most 10 kB | **no** |' in page
    page = data_sets.training_table('resnet50_cpn', {24: (2.0, 4.0), 294: (3.0, 5.0)})
    assert '294 points take 1.50 times the time and 1.25 times the memory of 24.' in page


@pytest.mark.parametrize('name', sorted(DATASETS.names()))
def test_sound_data_sets_have_no_nonsense(tmp_path, name):
    if name == 'fashionai':
        pytest.skip('its tables are fuzzed by themselves')
    for path, content in tiny_formats.files(name).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    schema, splits = DATASETS.get(name).open(Source(str(tmp_path)))
    found = [one for split in splits for one in split.annotations()]
    assert found and all(one.fault is None for one in found)
    for one in found:
        assert tiny_formats.nonsense(one, schema, str(tmp_path)) is None
    wrong = found[0]._replace(category='x'), found[0]._replace(image_path='/etc/passwd')
    assert all(tiny_formats.nonsense(one, schema, str(tmp_path)) for one in wrong)
