"""OKS and the AP and AR made of it, as the evaluation of COCO computes them.

The similarity of a detection to an annotation is the mean over its labelled points of

    exp(-d^2 / (2 * area * (2 * sigma)^2))

d being their distance, px, and sigma how far annotators usually are from each other at this point,
in square roots of the area (https://cocodataset.org/#keypoints-eval). The detections of a picture
are matched in the order of their scores, each to the best annotation that is left; the precision
is read at 101 recalls, and averaged over ten thresholds of OKS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema

# Of a point that the schema does not tell of. A share of 1 / K of the points would be another one
# for each category, and forgive anything where there are few points.
DEFAULT_SIGMA = 0.05
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 20  # of a picture and category; those of the least scores are left out
# Areas, px^2: (least, most). COCO has no small people.
SIZE_RANGES = {'all': (0.0, 1e10), 'medium': (32.0**2, 96.0**2), 'large': (96.0**2, 1e10)}
_RECALLS = np.linspace(0, 1, 101)
_SURE = 1 - 1e-10  # a threshold of 1 could hardly be reached
_AT = {'50': 0, '75': 5}  # of the thresholds
# What average_precision gives, in the order of COCO's table.
NAMES = ('AP', 'AP50', 'AP75', 'AP_medium', 'AP_large', 'AR', 'AR50', 'AR75', 'AR_medium',
         'AR_large')  # fmt: skip


class Garments(NamedTuple):
    """Annotations of N garments.

    Attributes:
        images: [N], which picture each is in.
        categories: str [N].
        keypoints: [N, K, 2], px.
        labelled: bool [N, K], the points that count.
        areas: [N], px^2.
        boxes: [N, 4], (x_min, y_min, x_max, y_max) px.
        crowds: bool [N], regions to be ignored, which any number of detections may lie in.
    """

    images: np.ndarray
    categories: np.ndarray
    keypoints: np.ndarray
    labelled: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    crowds: np.ndarray


class Detections(NamedTuple):
    """Predictions of M garments.

    Attributes:
        images: [M], which picture each is in.
        categories: str [M].
        keypoints: [M, K, 2], px.
        scores: [M], how sure each is.
    """

    images: np.ndarray
    categories: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray


class _Matches(NamedTuple):
    """What became of the detections of a picture: scores [m], and by threshold [10, m] which were
    matched and which are ignored; and how many annotations there were to find.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    num_annotations: int


_Instances = TypeVar('_Instances', Garments, Detections)


def _rows(instances: _Instances, chosen: np.ndarray) -> _Instances:
    return type(instances)(*(values[chosen] for values in instances))


def sigmas_of(schema: KeypointSchema) -> np.ndarray:
    """Return the sigma of each of the K keypoints: float64 [K]."""
    return np.array([schema.sigmas.get(name, DEFAULT_SIGMA) for name in schema.keypoints])


def similarities(detections: Detections, garments: Garments, sigmas: np.ndarray) -> np.ndarray:
    """Return the OKS of each of M detections with each of N annotations: float64 [M, N].

    Where an annotation has no labelled point, the distances are those of the detected points from
    its box, enlarged to three times its width and height.

    Args:
        detections: Of one picture.
        garments: Of the same picture.
        sigmas: [K]; only these K points count.
    """
    points = np.asarray(detections.keypoints, np.float64)[:, np.newaxis]
    offsets = points - np.asarray(garments.keypoints, np.float64)
    corners = np.asarray(garments.boxes, np.float64).reshape(-1, 1, 2, 2)
    low, high = corners[:, :, 0], corners[:, :, 1]
    margin = high - low
    outside = np.maximum(low - margin - points, 0) + np.maximum(points - high - margin, 0)
    labelled = np.asarray(garments.labelled, bool)
    is_known = labelled.any(axis=1)
    offsets = np.where(is_known[:, np.newaxis, np.newaxis], offsets, outside)
    areas = np.asarray(garments.areas, np.float64)[:, np.newaxis] + np.spacing(1)
    similar = np.exp(-np.square(offsets).sum(-1) / (2 * areas * np.square(2 * sigmas)))
    counted = labelled | ~is_known[:, np.newaxis]
    return np.where(counted, similar, 0).sum(-1) / counted.sum(-1)


def average_precision(
    garments: Garments, detections: Detections, schema: KeypointSchema
) -> dict[str, dict[str, float]]:
    """Return AP and AR of detections.

    Args:
        garments: Annotations of N garments in any number of pictures.
        detections: Of M garments in these pictures; where scores are equal, earlier ones first.
        schema: Of both. Of a category its own points count, with the schema's sigmas.

    Returns:
        Category -> name in NAMES -> fraction, NaN where no annotation counts; and the means over
        the categories as 'all'.

    Raises:
        UserError: A detected point is not a finite number.
    """
    if not np.isfinite(detections.keypoints).all():
        raise UserError('predicted: a point is not a finite number')
    sigmas, results = sigmas_of(schema), {}
    for category in schema.categories:
        points = list(schema.indices(category))
        truth = _rows(garments, np.asarray(garments.categories) == category)
        found = _rows(detections, np.asarray(detections.categories) == category)
        if not len(truth.images) and not len(found.images):
            continue
        truth = truth._replace(
            keypoints=truth.keypoints[:, points], labelled=truth.labelled[:, points]
        )
        found = found._replace(keypoints=found.keypoints[:, points])
        results[category] = _of_category(truth, found, sigmas[points])
    means = {}
    for name in NAMES:
        known = [row[name] for row in results.values() if not np.isnan(row[name])]
        means[name] = float(np.mean(known)) if known else float('nan')
    return {'all': means, **results}


def precision_of_known_boxes(
    categories: np.ndarray, scores: np.ndarray, similar: np.ndarray
) -> float:
    """Return AP where each garment has one detection, which is its own: of boxes that are known.

    Args:
        categories: [N].
        scores: [N], how sure each detection is.
        similar: [N], its OKS.

    Returns:
        The mean over the categories, a fraction; NaN where N is 0.
    """
    matched = similar >= np.minimum(THRESHOLDS, _SURE)[:, np.newaxis]
    precisions = []
    for category in np.unique(categories):
        own = categories == category
        found = matched[:, own]
        matches = _Matches(scores[own], found, np.zeros_like(found), np.count_nonzero(own))
        precisions.append(_curve([matches])[0].mean())
    return float(np.mean(precisions)) if precisions else float('nan')


def _of_category(truth: Garments, found: Detections, sigmas: np.ndarray) -> dict[str, float]:
    """Return the numbers of one category, whose points are the K of `sigmas`."""
    parts: dict[str, list[_Matches]] = {name: [] for name in SIZE_RANGES}
    for image in np.unique(np.concatenate([truth.images, found.images])):
        of_image = _rows(truth, truth.images == image)
        own = _rows(found, found.images == image)
        order = np.argsort(-np.asarray(own.scores, np.float64), kind='stable')[:MAX_DETECTIONS]
        own = _rows(own, order)
        similar = similarities(own, of_image, sigmas)
        for name, size_range in SIZE_RANGES.items():
            parts[name].append(_match(own, of_image, similar, size_range))
    row = {}
    for name, matches in parts.items():
        precisions, recalls = _curve(matches)
        suffix = '' if name == 'all' else f'_{name}'
        row[f'AP{suffix}'], row[f'AR{suffix}'] = float(precisions.mean()), float(recalls.mean())
        if name == 'all':
            for threshold, place in _AT.items():
                row[f'AP{threshold}'] = float(precisions[place])
                row[f'AR{threshold}'] = float(recalls[place])
    return {name: row[name] for name in NAMES}


def _match(
    found: Detections, truth: Garments, similar: np.ndarray, size_range: Sequence[float]
) -> _Matches:
    """Match the detections of a picture, the surest first, to its annotations.

    An annotation is ignored that is a crowd, has no labelled point, or not this size; what matches
    it is neither right nor wrong. Nor is what matches none and has not this size itself.
    """
    least, most = size_range
    areas = np.asarray(truth.areas, np.float64)
    unusable = np.asarray(truth.crowds, bool) | ~np.asarray(truth.labelled, bool).any(axis=1)
    unusable |= (areas < least) | (areas > most)
    order = np.argsort(unusable, kind='stable')  # those that count come first
    similar, unusable = similar[:, order], unusable[order]
    crowds = np.asarray(truth.crowds, bool)[order]
    shape = (len(THRESHOLDS), len(found.scores))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(order), bool)
        for number in range(len(found.scores)):
            best = _best(similar[number], unusable, taken & ~crowds, min(threshold, _SURE))
            if best is not None:
                taken[best] = matched[row, number] = True
                ignored[row, number] = unusable[best]
    points = np.asarray(found.keypoints, np.float64)
    detected = (points.max(axis=1) - points.min(axis=1)).prod(-1) if len(points) else np.zeros(0)
    ignored |= ~matched & ((detected < least) | (detected > most))
    return _Matches(np.asarray(found.scores), matched, ignored, int(np.count_nonzero(~unusable)))


def _best(
    similar: np.ndarray, unusable: np.ndarray, taken: np.ndarray, threshold: float
) -> int | None:
    """Return the most similar annotation, the last one of equal ones: of those that count if one of
    them is similar enough, else of those that are ignored; None where there is none.
    """
    for group in (~unusable, unusable):
        possible = np.flatnonzero(group & ~taken & (similar >= threshold))
        if len(possible):
            return int(possible[::-1][np.argmax(similar[possible[::-1]])])
    return None


def _curve(matches: Sequence[_Matches]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean precision and the last recall at each threshold: float64 [10] each; NaN where
    there is no annotation to find.
    """
    count = sum(one.num_annotations for one in matches)
    if not count:
        nothing = np.full(len(THRESHOLDS), np.nan)
        return nothing, nothing
    scores = np.concatenate([one.scores for one in matches])
    order = np.argsort(-scores, kind='stable')
    matched = np.concatenate([one.matched for one in matches], axis=1)[:, order]
    ignored = np.concatenate([one.ignored for one in matches], axis=1)[:, order]
    right = np.cumsum(matched & ~ignored, axis=1)
    wrong = np.cumsum(~matched & ~ignored, axis=1)
    return _interpolated(right, wrong, count)


def _interpolated(right: np.ndarray, wrong: np.ndarray, count: int):
    """Return as _curve; `right` and `wrong`, [10, M], are how many were so far."""
    precisions, recalls = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    if not right.shape[1]:
        return precisions, recalls
    recall = right / count
    precision = right / np.maximum(right + wrong, np.spacing(1))
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(THRESHOLDS)):
        places = np.searchsorted(recall[row], _RECALLS, side='left')
        reached = places[places < recall.shape[1]]
        precisions[row] = envelope[row][reached].sum() / len(_RECALLS)
    return precisions, recall[:, -1]
