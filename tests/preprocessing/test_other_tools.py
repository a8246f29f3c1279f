"""What we write annotation tools and libraries read with equal points, and what these write we do.

`bash tests/run.sh --tools` installs them into an environment of their own and runs this, and
tests/annotation_tools.py in there.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any, NamedTuple

import numpy as np
import pytest

from preprocessing import writers
from preprocessing.datasets import DATASETS, Source
from tests import tiny_pictures
from tests.annotation_tools import READ, WRITE
from tests.commands import ROOT
from tests.wardrobe import SCHEMA, SIZE

pytestmark = pytest.mark.tools

PICTURES = ('one.png', 'two ü.png', 'three+&.png', 'four.png')
IN_PICTURE = (0, 1, 0, 2, 0, 3, 3)  # of each garment: three, one, one and two
FORMATS = ('coco', 'coco_results', 'cvat', 'label_studio', 'labelme', 'yolo')


class Garment(NamedTuple):
    """What is compared: points by name as (x, y, v), and the box."""

    image: str
    category: str
    points: dict[str, tuple[float, float, int]]
    box: Any


def drawn() -> list[writers.Garment]:
    """Draw garments, some with points that are occluded or absent."""
    rng = np.random.default_rng(0)
    made = []
    for number, picture in enumerate(IN_PICTURE):
        category = list(SCHEMA.categories)[number % 3 == 1]
        visibility = np.full(4, -1)
        own = list(SCHEMA.indices(category))
        visibility[own] = [1, *rng.permutation([rng.integers(-1, 2), 0])]
        points = rng.uniform(1, 0.97 * np.array(SIZE[::-1]), (4, 2))
        keypoints = np.where(visibility[:, None] >= 0, points, np.nan).astype(np.float32)
        low = rng.uniform(0, 30, 2)
        box = np.concatenate([low, low + rng.uniform(9, 29, 2)]).astype(np.float32)
        scores = rng.uniform(0, 1, 4)
        name = PICTURES[picture]
        made.append(writers.Garment(name, '', category, keypoints, visibility, SIZE, scores, box))
    assert {-1, 0, 1} == {
        v for one in made for v in one.visibility[list(SCHEMA.indices(one.category))]
    }
    return made


def plain(garment: writers.Garment) -> Garment:
    points = {
        SCHEMA.keypoints[k]: (*map(float, garment.keypoints[k]), int(garment.visibility[k]))
        for k in SCHEMA.indices(garment.category)
        if garment.visibility[k] >= 0
    }
    return Garment(garment.image_name, garment.category, points, list(map(float, garment.box)))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Write all formats, and have the tools read them and write theirs."""
    python = os.environ.get('TOOLS_PYTHON')
    if not python:
        pytest.skip('needs annotation tools: bash tests/run.sh --tools')
    folder = tmp_path_factory.mktemp('tools')
    garments = drawn()
    tiny_pictures.write(folder / 'images', PICTURES, SIZE)
    for name in FORMATS:
        writers.write(name, str(folder / 'ours' / name), garments, SCHEMA)
    tiny_pictures.write(folder / 'ours/labelme', PICTURES, SIZE)
    told = {
        'names': {category: list(SCHEMA.categories[category]) for category in SCHEMA.categories},
        'garments': [{**plain(one)._asdict(), 'size': SIZE} for one in garments],
    }
    (folder / 'garments.json').write_text(json.dumps(told))
    script = ROOT / 'tests/annotation_tools.py'
    environment = {n: v for n, v in os.environ.items() if n not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    done = subprocess.run(
        [python, str(script), str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def check_done(path: pathlib.Path) -> None:
    """Skip the test where a tool is not installed; fail it with what the tool says."""
    for kind, end in (('missing', pytest.skip), ('error', pytest.fail)):
        said = path.with_name(f'{path.name}.{kind}')
        if said.exists():
            end(said.read_text())


def check_equal(
    found: list[Garment],
    expected: list[Garment],
    tolerance: float = 2e-3,
    without: tuple[str, ...] = (),
) -> None:
    """Compare garments, in any order.

    Args:
        found, expected: Of all pictures.
        tolerance: px.
        without: What a format has not: 'box', 'category', or 'hidden', so that all are visible.
    """
    hidden, category = 'hidden' not in without, 'category' not in without

    def key(one: Garment):
        return one.image, one.category if category else '', min(x for x, *_ in one.points.values())

    found, expected = sorted(found, key=key), sorted(expected, key=key)
    assert [key(one)[:2] for one in found] == [key(one)[:2] for one in expected]
    for one, same in zip(found, expected):
        assert set(one.points) == set(same.points)
        for name, (x, y, v) in same.points.items():
            assert one.points[name][:2] == pytest.approx((x, y), abs=tolerance), (one, same)
            assert one.points[name][2] == (v if hidden else 1), (one, same)
        if 'box' not in without:
            assert one.box == pytest.approx(same.box, abs=tolerance)


# What a tool does not read or write of a format.
LACKS = {
    'pycocotools_results': ('box', 'hidden'),
    'label_studio_coco': ('hidden',),
    'label_studio_yolo': ('hidden',),
    'sleap_coco': ('box', 'hidden'),
    'sleap_label_studio': ('box', 'hidden', 'category'),
    'sleap_yolo': ('box', 'hidden', 'category'),
    'deeplabcut': ('box', 'hidden', 'category'),
}
# px; others have a thousandth.
TOLERANCES = {'label_studio_coco': 0.501, 'datumaro_coco': 0.0061, 'datumaro_cvat': 0.0061}


@pytest.mark.parametrize('name', READ)
def test_tools_read_what_we_write(folder, name):
    path = folder / 'read' / name
    check_done(path)
    found = [Garment(**one) for one in json.loads(path.with_name(f'{name}.json').read_text())]
    expected = [plain(one) for one in drawn()]
    if name == 'label_studio':  # its own format: it is checked, not read
        assert not found
        return
    if name == 'label_studio_coco':  # has one list of points for a picture
        expected = [one for one in expected if one.image in PICTURES[1:3]]
    check_equal(found, expected, TOLERANCES.get(name, 2e-3), LACKS.get(name, ()))


@pytest.mark.parametrize('name', WRITE)
def test_we_read_what_tools_write(folder, name):
    path = folder / 'theirs' / name
    check_done(path)
    dataset = name.split('_', 1)[-1]
    expected = [plain(one) for one in drawn()]
    if name.startswith('sleap'):  # one skeleton
        expected = [one for one in expected if one.category == 'hat']
    schema, splits = DATASETS.get(dataset).open(Source(str(path)))
    found = [
        Garment(pathlib.Path(one.image_path).name, one.category, points_of(one, schema), one.box)
        for split in splits
        for one in split.annotations()
        if (one.visibility >= 0).any()
    ]
    if name == 'sleap_yolo':  # has names of its own
        order = json.loads((path / 'order.json').read_text())
        found = [one._replace(image=order[int(pathlib.Path(one.image).stem)]) for one in found]
    check_equal(found, expected, TOLERANCES.get(name, 2e-3), LACKS.get(name, ()))


def points_of(annotation, schema) -> dict[str, tuple[float, float, int]]:
    rows = zip(schema.keypoints, annotation.keypoints.tolist(), annotation.visibility.tolist())
    return {name: (x, y, v) for name, (x, y), v in rows if v >= 0}
