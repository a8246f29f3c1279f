"""The benchmark of the input: its ways give pictures, and its table the ratios it speaks of."""

import pytest

from benchmarks.speed import input_pipeline
from benchmarks.speed.input_pipeline import (
    DECODING,
    DEVICE,
    HEATMAPS,
    HOST,
    MATRICES,
    READING,
    SEED,
)


def test_ratios_are_medians_over_rounds_in_which_all_took_turns():
    rates = {
        DECODING: [1000.0, 500.0, 800.0],
        SEED: [100.0, 100.0, 100.0],
        HOST: [400.0, 210.0, 320.0],
        HEATMAPS: [500.0, 200.0, 640.0],
        DEVICE: [790.0, 400.0, 630.0],
    }
    first = {DECODING: 1.0, SEED: 2.0, HOST: 3.0, HEATMAPS: 3.04, DEVICE: 4.0}
    assert list(input_pipeline.rows(rates, first)) == [
        (DECODING, '800 ± 125', '1.00', '8.0', '1.0', '', ''),
        (SEED, '100 ± 0', '0.12', '1.0', '2.0', '', ''),
        (HOST, '320 ± 48', '0.40', '3.2', '3.0', 'at least 0.4 of decoding', 'yes'),
        (HEATMAPS, '500 ± 110', '0.50', '5.0', '3.0', 'at least 400 pictures/s', 'yes'),
        (DEVICE, '630 ± 98', '0.79', '6.3', '4.0', 'at least 0.8 of decoding', '**no**'),
    ]


def test_stages_are_what_one_way_takes_more_than_another():
    milliseconds = {READING: 0.1, MATRICES: 0.2, DECODING: 0.5, DEVICE: 0.7, HOST: 1.6}
    rates = {name: [1000 / value] * 3 for name, value in milliseconds.items()}
    table = input_pipeline.stages_table(rates)
    assert [row[1] for row in table.rows] == ['0.10', '0.10', '0.40', '0.10', '1.00']
    assert [row[2] for row in table.rows] == ['0.20', '0.20', '0.80', '0.20', '2.00']


@pytest.mark.slow
def test_every_way_gives_batches_of_the_same_size(tmp_path, monkeypatch):
    for name, value in (('PICTURES', 5), ('SIDE', 64), ('BATCH_SIZE', 2)):
        monkeypatch.setattr(input_pipeline, name, value)
    input_pipeline.write_records(tmp_path)
    datasets, seconds = input_pipeline.first_batches(input_pipeline.ways(str(tmp_path)))
    assert datasets.keys() == seconds.keys() > {DECODING, SEED, HOST, DEVICE}
    sizes = {name: data.element_spec for name, data in datasets.items()}
    assert sizes[SEED][0].shape[1:] == (384, 384, 3) and sizes[SEED][1].shape[1:] == (24, 96, 96)
    assert sizes[HOST][0]['image'].shape == (2, 384, 384, 3)
    image, heatmaps = sizes[HEATMAPS]
    assert image.shape == (2, 384, 384, 3) and heatmaps.shape == (2, 96, 96, 24)
    for data in datasets.values():
        next(iter(data))
