"""ensemble_from_csv.py, from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from preprocessing.datasets.fashionai import SCHEMA

ROOT = Path(__file__).resolve().parent.parent


def write_csv(path, points, ids=('1.jpg', '2.jpg')):
    """A submission of skirts; all points of a picture are at one pixel, None for -1."""
    lines = [','.join(['image_id', 'image_category', *SCHEMA.keypoints])]
    for image_id, point in zip(ids, points):
        own = '-1_-1_-1' if point is None else f'{point[0]}_{point[1]}_1'
        cells = [own if n in SCHEMA.categories['skirt'] else '-1_-1_-1' for n in SCHEMA.keypoints]
        lines.append(','.join([image_id, 'skirt', *cells]))
    path.write_text('\n'.join(lines) + '\n')


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / 'a.csv', [(10, 20), (5, 5)])
    write_csv(tmp_path / 'b.csv', [(20, 31), None])
    write_csv(tmp_path / 'c.csv', [(300, 24), (9, 9)], ids=('2.jpg', '1.jpg'))
    return tmp_path


def run(folder, *arguments):
    command = [sys.executable, str(ROOT / 'ensemble_from_csv.py'), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    'arguments, points',
    [
        (['a.csv'], [(10, 20), (5, 5)]),
        (['a.csv', 'b.csv'], [(15, 26), (5, 5)]),  # 25.5 goes to the even 26
        (['a.csv', 'b.csv', '--weights=0.7,0.3'], [(13, 23), (5, 5)]),
        (['a.csv', 'b.csv', 'c.csv'], [(13, 20), (152, 14)]),
        (['a.csv', 'b.csv', 'c.csv', '--method=median'], [(10, 20), (152, 14)]),
        (['a.csv', 'c.csv', '--weights=1,2', '--method=median'], [(9, 9), (300, 24)]),
    ],
)
def test_combined_points(folder, arguments, points):
    result = run(folder, *arguments, '--output_csv=out/all.csv')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'out/all.csv' in result.stdout
    write_csv(folder / 'wanted.csv', points)
    assert (folder / 'out' / 'all.csv').read_text() == (folder / 'wanted.csv').read_text()


def test_default_output(folder):
    assert run(folder, 'a.csv', 'b.csv').returncode == 0
    assert (folder / 'ensemble.csv').exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'give the CSVs'),
        (['a.csv', 'b.csv', '--output_csv=./b.csv'], '--output_csv=./b.csv'),
        (['a.csv', 'none.csv'], 'none.csv'),
        (['a.csv', 'b.csv', '--weights=1'], 'must be 2 numbers'),
        (['a.csv', 'b.csv', '--weights=1,x'], '--weights=1,x'),
        (['a.csv', 'b.csv', '--weights=1,-1'], 'must be positive'),
        (['a.csv', '--method=mode'], 'method'),
        (['a.csv', '--dataset=none'], "unknown data set 'none'"),
        (['b.csv'], '2.jpg (skirt), waistband_left: predicted in no submission'),
        (['a.csv', 'short.csv'], 'short.csv lacks 1 images (2.jpg) of a.csv'),
        (['a.csv', 'broken.csv'], "broken.csv, line 2, column 'waistband_left'"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, arguments, message):
    write_csv(folder / 'short.csv', [(1, 1)])
    text = (folder / 'short.csv').read_text()
    (folder / 'broken.csv').write_text(text.replace('1_1_1', '1_1', 1))
    before = {path.name: path.read_text() for path in folder.iterdir()}
    result = run(folder, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
