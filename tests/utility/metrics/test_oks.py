"""AP and AR of OKS are those of the COCO tool, and what a hand computes."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from preprocessing.schema import BOX_AREA_ROOT, KeypointSchema
from utility.metrics import oks

NAMES = ('a', 'b', 'c', 'd')
SCHEMA = KeypointSchema(
    name='hats',
    keypoints=NAMES,
    categories={'hat': NAMES, 'cap': NAMES},
    normalizers={'hat': BOX_AREA_ROOT, 'cap': BOX_AREA_ROOT},
    swaps=(),
    sigmas=dict(zip(NAMES, (0.03, 0.05, 0.08, 0.1))),
)
CATEGORIES = list(SCHEMA.categories)


def _garments(rng, count):
    """Garments in few pictures, some crowds, some without a labelled point, of all sizes."""
    corners = rng.uniform(0, 300, [count, 2])
    sides = np.exp(rng.uniform(np.log(10), np.log(250), [count, 2]))
    keypoints = corners[:, None] + rng.uniform(0, 1, [count, 4, 2]) * sides[:, None]
    labelled = rng.random([count, 4]) < 0.7
    labelled[rng.random(count) < 0.15] = False
    return oks.Garments(
        images=rng.integers(1, 1 + max(count // 4, 1), count),
        categories=rng.choice(CATEGORIES, count),
        keypoints=np.where(labelled[..., None], keypoints, 0),
        labelled=labelled,
        areas=sides.prod(1) * rng.uniform(0.5, 1, count),
        boxes=np.concatenate([corners, corners + sides], axis=1),
        crowds=rng.random(count) < 0.15,
    )


def _detections(rng, garments, most_each):
    """Detections near some of the garments, near none, and many of one picture."""
    rows = rng.integers(0, len(garments.images), most_each * len(garments.images))
    sizes = np.sqrt(garments.areas[rows])[:, None, None]
    noise = rng.normal(0, 1, [len(rows), 4, 2]) * sizes * rng.uniform(0, 0.15, [len(rows), 1, 1])
    centers = garments.boxes[rows].reshape(-1, 2, 2).mean(1)[:, None]
    points = np.where(garments.labelled[rows][..., None], garments.keypoints[rows], centers)
    return oks.Detections(
        images=garments.images[rows],
        categories=garments.categories[rows],
        keypoints=points + noise,
        scores=np.round(rng.random(len(rows)), 2),  # with equal ones
    )


def _of_the_tool(garments, detections):
    """The same by pycocotools: AP50 and so on -> value, of all categories together."""
    annotations = []
    for number, row in enumerate(zip(*garments), 1):
        image, category, keypoints, labelled, area, box, crowd = row
        visible = 2 * labelled[:, None]
        annotations.append(
            {
                'id': number,
                'image_id': int(image),
                'category_id': CATEGORIES.index(category) + 1,
                'keypoints': np.concatenate([keypoints, visible], 1).ravel().tolist(),
                'num_keypoints': int(labelled.sum()),
                'area': float(area),
                'bbox': [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                'iscrowd': int(crowd),
            }
        )
    images = sorted({one['image_id'] for one in annotations})
    truth = COCO()
    truth.dataset = {
        'info': {},
        'images': [{'id': image} for image in images],
        'categories': [{'id': n, 'name': c} for n, c in enumerate(CATEGORIES, 1)],
        'annotations': annotations,
    }
    results = [
        {
            'image_id': int(image),
            'category_id': CATEGORIES.index(category) + 1,
            'keypoints': np.concatenate([points, np.ones([4, 1])], 1).ravel().tolist(),
            'score': float(score),
        }
        for image, category, points, score in zip(*detections)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        tool = COCOeval(truth, truth.loadRes(results), 'keypoints')
        tool.params.kpt_oks_sigmas = oks.sigmas_of(SCHEMA)
        tool.evaluate()
        tool.accumulate()
        tool.summarize()
    return {name: math.nan if v == -1 else v for name, v in zip(oks.NAMES, tool.stats)}


@pytest.mark.parametrize('seed', range(12))
def test_equal_to_the_coco_tool(seed):
    rng = np.random.default_rng(seed)
    garments = _garments(rng, int(rng.integers(2, 60)))
    # Most: more detections of a picture than are counted.
    detections = _detections(rng, garments, 1 + 8 * (seed % 3))
    own = oks.average_precision(garments, detections, SCHEMA)['all']
    expected = _of_the_tool(garments, detections)
    assert own == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert any(0 < value < 1 for value in own.values()) or len(garments.images) < 8


def _square(offsets, area=10000.0, **others):
    """One garment of four points in a picture of its own, and its detection, so far off."""
    points = np.array([[10, 10], [110, 10], [10, 110], [110, 110]], float)
    truth = oks.Garments(
        images=np.array([1]),
        categories=np.array(['hat']),
        keypoints=points[None],
        labelled=np.ones([1, 4], bool),
        areas=np.array([area]),
        boxes=np.array([[10, 10, 110, 110.0]]),
        crowds=np.zeros(1, bool),
    )._replace(**others)
    moved = points + np.stack([offsets, np.zeros(4)], -1)
    return truth, oks.Detections(np.array([1]), np.array(['hat']), moved[None], np.array([0.5]))


def test_similarity_by_hand():
    truth, found = _square([6.0, 0, 0, 0])
    # d = 6 px, s = 100 px, k = 2 * 0.03: the exponent is 0.5.
    by_hand = (math.exp(-0.5) + 3) / 4
    (value,) = oks.similarities(found, truth, oks.sigmas_of(SCHEMA)).ravel()
    assert value == pytest.approx(by_hand)
    half = truth._replace(labelled=np.array([[True, True, False, False]]))
    (value,) = oks.similarities(found, half, oks.sigmas_of(SCHEMA)).ravel()
    assert value == pytest.approx((math.exp(-0.5) + 1) / 2)


def test_precision_by_hand():
    # The similarity is 0.9016: it passes all thresholds from 0.5 to 0.9, but not 0.95.
    truth, found = _square([6.0, 0, 0, 0])
    result = oks.average_precision(truth, found, SCHEMA)
    assert result['hat']['AP'] == pytest.approx(0.9)
    assert result['hat']['AP50'] == result['hat']['AP75'] == result['hat']['AR50'] == 1
    assert math.isnan(result['hat']['AP_medium'])  # 100 px a side is large
    assert result['all'] == pytest.approx(result['hat'], nan_ok=True)


def test_a_surer_detection_of_nothing_halves_the_precision():
    truth, found = _square(np.zeros(4))
    wrong = found._replace(keypoints=found.keypoints + 1000, scores=np.array([0.9]))
    both = oks.Detections(*(np.concatenate(pair) for pair in zip(found, wrong)))
    result = oks.average_precision(truth, both, SCHEMA)['hat']
    assert (result['AP'], result['AR']) == (pytest.approx(0.5), 1)
    # Less sure than the right one it costs nothing.
    last = both._replace(scores=np.array([0.9, 0.5]))
    assert oks.average_precision(truth, last, SCHEMA)['hat']['AP'] == pytest.approx(1)


@pytest.mark.parametrize('factor, shift', [(1, 77.0), (3, 0.0), (0.5, -20.0)])
def test_neither_place_nor_scale_matter(factor, shift):
    rng = np.random.default_rng(3)
    garments = _garments(rng, 40)
    detections = _detections(rng, garments, 3)
    before = oks.average_precision(garments, detections, SCHEMA)['all']
    after = oks.average_precision(
        garments._replace(
            keypoints=garments.keypoints * factor + shift,
            areas=garments.areas * factor**2,
            boxes=garments.boxes * factor + shift,
        ),
        detections._replace(keypoints=detections.keypoints * factor + shift),
        SCHEMA,
    )['all']
    assert 0 < before['AP'] < 1
    assert (after['AP'], after['AR']) == pytest.approx((before['AP'], before['AR']))


def test_points_that_are_not_told_of_have_the_usual_sigma():
    schema = KeypointSchema('hats', NAMES, {'hat': NAMES}, {'hat': ('a', 'b')}, swaps=())
    assert oks.sigmas_of(schema).tolist() == [oks.DEFAULT_SIGMA] * 4
    assert oks.sigmas_of(SCHEMA.subset('hat')).tolist() == [0.03, 0.05, 0.08, 0.1]
