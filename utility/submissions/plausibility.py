"""Is a prediction what was meant? What a whole submission looks like, beside what is usual.

Nothing here is against a rule, and every answer is a 'probably'. What is usual is in the schema of
the data set, as measured on its annotations and on submissions; what the schema does not tell is
not looked at. The limits lie far from it, so that a poor network is not taken for a broken file.
Exchanged columns whose points have no usual order, such as cuffs and waistlines, are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from utility.submissions.findings import WARNING, Example, Finding
from utility.submissions.scale import MIN_IMAGES, check_scale

# Of FashionAI two points stand the other way round than usual in at most 12 % of the annotations of
# any category, and in no more of the submissions.
_MAX_REVERSED = 0.5
_MAX_CONSTANT = 0.25  # share of a point's most frequent position; 3 % in cells of 8 px
_MAX_EQUAL = 0.5  # share of the pictures where two points coincide
_GRIDS = (32, 16, 8, 4)  # px
_ON_GRID = 0.6  # share of the coordinates; chance has 0.25 at most


class Prediction(NamedTuple):
    """Points of N pictures.

    Attributes:
        lines: int64 [N], of the file.
        image_ids: str objects [N].
        categories: str [N].
        keypoints: float64 [N, K, 2], indices of pixels; NaN where there is no point.
        image_sizes: float64 [N, 2], (height, width), px; NaN where unknown.
    """

    lines: np.ndarray
    image_ids: np.ndarray
    categories: np.ndarray
    keypoints: np.ndarray
    image_sizes: np.ndarray

    def rows(self, chosen: np.ndarray) -> Prediction:
        return Prediction(*(values[chosen] for values in self))

    def example(self, row: int, detail: str) -> Example:
        return Example(self.lines[row], self.image_ids[row], detail)


class _Order(NamedTuple):
    """Two points, of which the first usually has the smaller x (axis 0) or y (axis 1).

    `mirrors`: They change places in a mirror.
    """

    first: int
    second: int
    axis: int
    mirrors: bool = False


def check_plausibility(prediction: Prediction, schema: KeypointSchema) -> list[Finding]:
    """Return what is probably not meant in a prediction, all of it of the schema's categories."""
    constant = _constant(prediction, schema)
    findings = [*constant, *_on_grid(prediction), *_collapsed(prediction)]
    findings += _coinciding(prediction, schema) + _beyond_usual(prediction, schema)
    axes_exchanged = _axes_exchanged(prediction, schema)
    if axes_exchanged:
        return findings + axes_exchanged
    findings += _reversed(prediction, schema)
    # The middle of the points says nothing of the pictures where it is always the same.
    return findings if constant else findings + check_scale(*prediction[-2:], schema)


def _large_categories(
    prediction: Prediction, schema: KeypointSchema
) -> Iterator[tuple[str, np.ndarray, Prediction]]:
    """Yield each category with enough pictures: name, rows, and these pictures alone."""
    for category in schema.categories:
        rows = np.flatnonzero(prediction.categories == category)
        if len(rows) >= MIN_IMAGES:
            yield category, rows, prediction.rows(rows)


def _shares(mask: np.ndarray, among: np.ndarray) -> float:
    """Return the share of True in mask among the N that count; 0 if these are too few."""
    count = np.count_nonzero(among)
    return np.count_nonzero(mask & among) / count if count >= MIN_IMAGES else 0.0


def _is_present(keypoints: np.ndarray) -> np.ndarray:
    return ~np.isnan(keypoints).any(-1)


def _on_grid(prediction: Prediction) -> list[Finding]:
    values = prediction.keypoints[_is_present(prediction.keypoints)].astype(np.int64).ravel()
    if len(values) < 100 * MIN_IMAGES:
        return []
    for grid in _GRIDS:
        on_grid = np.bincount(values % grid, minlength=grid).max()
        if on_grid >= _ON_GRID * len(values):
            problem = (
                f'coordinates lie {grid} px apart: points are cells of a heat map, not refined'
            )
            advice = 'decode with a refinement (--refine), and map to the picture before rounding'
            return Finding(WARNING, 'constant', problem, advice, 'coordinates').at(on_grid)
    return []


def _collapsed(prediction: Prediction) -> list[Finding]:
    points = prediction.keypoints
    extent = np.fmax.reduce(points, axis=1) - np.fmin.reduce(points, axis=1)
    collapsed = (extent <= 1).all(-1) & (_is_present(points).sum(1) > 1)
    rows = np.flatnonzero(collapsed)
    problem, advice = (
        'all points of a picture in one place',
        'look at these pictures and their crops',
    )
    finding = Finding(WARNING, 'constant', problem, advice, 'pictures')
    return finding.at(len(rows), (prediction.example(row, '') for row in rows))


def _constant(prediction: Prediction, schema: KeypointSchema) -> list[Finding]:
    examples = []
    for category, rows, part in _large_categories(prediction, schema):
        for k in schema.indices(category):
            present = np.flatnonzero(_is_present(part.keypoints[:, k]))
            places, first, counts = np.unique(
                part.keypoints[present, k], axis=0, return_index=True, return_counts=True
            )
            if len(present) >= MIN_IMAGES and counts.max() > _MAX_CONSTANT * len(present):
                most = counts.argmax()
                x, y = places[most]
                detail = f'{schema.keypoints[k]} is at ({x:g}, {y:g}) in {counts[most]:,} of '
                detail += f'{len(present):,} pictures of {category}'
                examples.append(prediction.example(rows[present[first[most]]], detail))
    problem = 'points at the same place in many pictures'
    advice = 'does the network see the pictures, and each its own? Points may be means, or defaults'
    return Finding(WARNING, 'constant', problem, advice, 'columns').at(len(examples), examples)


def _coinciding(prediction: Prediction, schema: KeypointSchema) -> list[Finding]:
    examples = []
    for category, rows, part in _large_categories(prediction, schema):
        in_category = schema.indices(category)
        for a, b in ((a, b) for a in in_category for b in in_category if a < b):
            points = part.keypoints[:, [a, b]]
            equal = (points[:, 0] == points[:, 1]).all(-1)
            share = _shares(equal, _is_present(points).all(-1))
            if share > _MAX_EQUAL:
                detail = (
                    f'{schema.keypoints[a]} = {schema.keypoints[b]} in {share:.1%} of {category}'
                )
                examples.append(prediction.example(rows[equal.argmax()], detail))
    problem, advice = 'two points are the same in most pictures', 'was a column copied to another?'
    finding = Finding(WARNING, 'exchanged', problem, advice, 'pairs of columns')
    return finding.at(len(examples), examples)


def _axes_exchanged(prediction: Prediction, schema: KeypointSchema) -> list[Finding]:
    """Find points side by side with their partners of the other side, not one above the other."""
    pairs = np.array(schema.side_pairs, int).reshape(-1, 2)
    offsets = prediction.keypoints[:, pairs[:, 0]] - prediction.keypoints[:, pairs[:, 1]]
    present = _is_present(offsets)
    across, along = np.abs(offsets[present]).T
    is_too_few = np.count_nonzero(present.any(1)) < MIN_IMAGES
    if is_too_few or np.median(across) >= np.median(along):
        return []
    problem = 'x and y are probably exchanged: left and right points stand one above the other'
    finding = Finding(WARNING, 'exchanged', problem, 'write x_y_1, not y_x_1', 'pairs of points')
    return finding.at(np.count_nonzero(along > across))


def _usual_orders(category: str, schema: KeypointSchema) -> Iterator[_Order]:
    """Yield what usually stands left of what, and what above what."""
    in_category = schema.indices(category)
    sides = {k: side for pair in schema.side_pairs for side, k in enumerate(pair)}
    levels = {schema.keypoints.index(name): level for name, level in schema.levels.items()}
    left_of = [tuple(map(schema.keypoints.index, pair)) for pair in schema.left_of]
    for a, b in ((a, b) for a in in_category for b in in_category):
        if (a, b) in left_of:
            yield _Order(a, b, axis=0, mirrors=schema.flip_permutation[a] == b)
        # A garment may be turned, but hardly so far that one side's points change their order.
        same_side = len({sides[k] for k in (a, b) if k in sides}) == 1
        if same_side and a in levels and b in levels and levels[a] < levels[b]:
            yield _Order(a, b, axis=1)


def _reversed(prediction: Prediction, schema: KeypointSchema) -> list[Finding]:
    """Return points that stand the other way round than usual: left and right, or whole columns."""
    sides, columns = [], []
    for category, rows, part in _large_categories(prediction, schema):
        reversed_orders = {}
        for order in _usual_orders(category, schema):
            a, b = order[:2]
            wrong = part.keypoints[:, a, order.axis] > part.keypoints[:, b, order.axis]
            share = _shares(wrong, _is_present(part.keypoints[:, [a, b]]).all(-1))
            if share > _MAX_REVERSED:
                where = 'below' if order.axis else 'right of'
                first, second = schema.keypoints[a], schema.keypoints[b]
                detail = f'{first} is {where} {second} in {share:.1%} of {category}'
                reversed_orders[order] = prediction.example(rows[wrong.argmax()], detail)
        mirrored = [order for order in reversed_orders if order.mirrors]
        sides += [reversed_orders[order] for order in mirrored]
        # Where left is right, what is outside is inside as well.
        columns += [
            reversed_orders[o]
            for o in reversed_orders
            if not o.mirrors and not (mirrored and o.axis == 0)
        ]
    problem = 'left and right are probably exchanged; left is the left of the picture'
    advice = (
        'exchange the columns; was a flipped picture not flipped back, or its points not renamed?'
    )
    findings = Finding(WARNING, 'exchanged', problem, advice, 'pairs of columns').at(
        len(sides), sides
    )
    problem = 'points stand the other way round than usual'
    advice = (
        'are columns exchanged, is y counted from below, are means taken over absent points (-1)?'
    )
    finding = Finding(WARNING, 'exchanged', problem, advice, 'pairs of columns')
    return findings + finding.at(len(columns), columns)


def _beyond_usual(prediction: Prediction, schema: KeypointSchema) -> list[Finding]:
    """Return points that are most likely outside of the picture, where no sizes are known."""
    side = schema.usual_side
    if side is None:
        return []
    unknown = np.isnan(prediction.image_sizes).all()
    beyond = (prediction.keypoints >= side).any(-1) & unknown
    places = np.argwhere(beyond)
    problem = f'points at {side} px or beyond, though most pictures end there'
    advice = 'give --data_dir, so that the sizes of the pictures are known'
    examples = (
        prediction.example(row, 'at ({:g}, {:g})'.format(*prediction.keypoints[row, k]))
        for row, k in places
    )
    return Finding(WARNING, 'ranges', problem, advice, 'points').at(len(places), examples)
