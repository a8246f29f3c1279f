"""What was learned of the errors of a predictor: radii of its points, and the file of it."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from config import UserError
from preprocessing.files import write_bytes
from preprocessing.json_input import Node, read_json
from preprocessing.schema import KeypointSchema, Measurement
from utility.predict.uncertainty.features import (
    FEATURES,
    POINT_FEATURES,
    features_of,
    means_of_pictures,
    size_of_error,
)
from utility.statistics import conformal

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions
    from utility.predict.views_to_points import PredictOptions

LEVEL = 0.9
FORMAT_VERSION = 1
# What of an experiment's prediction changes the features or the errors.
_OPTIONS = ('flip_test', 'passes', 'refine', 'fuse', 'outputs', 'smoothing', 'views')
# Lengths differ more from each other than points do, and of each there is one in a picture.
_BEYOND_OF_LENGTHS = 3
# What a file may tell: e^50 px times a score is still a number in float32.
_MOST_LOGARITHM, _MOST_SCORE, _MOST_FEATURE = 50.0, 1e12, 1e9


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is known of the errors of a predictor.

    Attributes:
        keypoints: K names, of the whole schema.
        features: Names in FEATURES.
        options: How was predicted, as plain values.
        pictures: How many calibrated.
        model: Of the size of errors, px.
        scores: 'category/keypoint' -> errors over their expected sizes, ascending.
        lengths: 'measurement/category' -> the same of lengths between points.
        known: Category -> the features of pictures [n, F], means over their points.
    """

    keypoints: tuple[str, ...]
    features: tuple[str, ...]
    options: Mapping[str, Any]
    pictures: int
    model: conformal.ErrorModel
    scores: Mapping[str, tuple[float, ...]]
    lengths: Mapping[str, tuple[float, ...]]
    known: Mapping[str, tuple[tuple[float, ...], ...]]

    @functools.cached_property
    def _pooled(self) -> conformal.GroupScores:
        return conformal.GroupScores(self.scores)

    @functools.cached_property
    def _pooled_lengths(self) -> conformal.GroupScores:
        return conformal.GroupScores(self.lengths, _BEYOND_OF_LENGTHS)

    @property
    def needs_maps(self) -> bool:
        """Whether it asks for more than points and scores: see PredictOptions.map_features."""
        return not set(self.features) <= set(POINT_FEATURES)

    def sizes(self, predictions: Predictions) -> np.ndarray:
        """Return the size of error that is expected of each point: float64 [N, K], px, the 90 %
        quantile before it is calibrated; NaN where the category has no such point.
        """
        features = features_of(predictions, self.features)
        places = np.argwhere(predictions.visibility >= 0)
        groups = [self._group(predictions, *place) for place in places]
        sizes = np.full(predictions.visibility.shape, np.nan)
        if len(places):
            sizes[tuple(places.T)] = self.model.predict(features[tuple(places.T)], groups)
        return sizes

    def _group(self, predictions: Predictions, row: int, k: int) -> str:
        return f'{predictions.categories[row]}/{self.keypoints[k]}'

    def radii(self, predictions: Predictions, level: float = LEVEL) -> np.ndarray:
        """Return the radius about each point that holds its true place, with probability `level`.

        Returns:
            float32 [N, K], px of the pictures; NaN where the category has no such point, infinite
            where the level is higher than so many calibrating pictures allow.

        Raises:
            UserError: The level is not between 0 and 1, or the predictions lack a feature.
        """
        conformal.rank(1, level)
        return self._scaled(
            predictions, lambda g: conformal.quantile(self._pooled.of(g, level), level)
        )

    def expected_errors(self, predictions: Predictions) -> np.ndarray:
        """Return the error that is to be expected on average: float32 [N, K], px; NaN likewise."""
        return self._scaled(predictions, lambda g: float(np.mean(self._pooled.of(g, LEVEL))))

    def _scaled(self, predictions: Predictions, factor_of) -> np.ndarray:
        sizes = self.sizes(predictions)
        factors = np.full(sizes.shape, np.nan)
        for category in np.unique(predictions.categories):
            rows = np.flatnonzero(predictions.categories == category)
            for k in np.flatnonzero((predictions.visibility[rows] >= 0).any(0)):
                factors[rows, k] = factor_of(f'{category}/{self.keypoints[k]}')
        return (sizes * factors).astype(np.float32)

    def length_interval(
        self, category: str, name: str, ends: Measurement, sizes: np.ndarray, level: float = LEVEL
    ) -> float:
        """Return by how much a length between points may be wrong, with probability `level`: px.

        Args:
            sizes: float [K], what `sizes` gives of the picture.
        """
        scores = self._pooled_lengths.of(f'{name}/{category}', level)
        return conformal.quantile(scores, level) * size_of_error(ends, sizes, self.keypoints)

    def shifts(self, predictions: Predictions) -> list[conformal.Shift]:
        """Return how the pictures differ from those that calibrated; see conformal.shifts."""
        known = {name: np.array(rows) for name, rows in self.known.items()}
        return conformal.shifts(known, means_of_pictures(predictions, self.features), self.features)

    def check(self, schema: KeypointSchema, options: PredictOptions, place: str) -> None:
        """Refuse to tell of the points of another predictor.

        Raises:
            UserError: The keypoints or the way of predicting are others; `place` is named.
        """
        if self.keypoints != schema.keypoints:
            raise UserError(
                f'{place}: was made for the {len(self.keypoints)} keypoints '
                f'{", ".join(self.keypoints[:3])}, ..., not for those of {schema.name}'
            )
        for name, value in plain_options(options).items():
            if name in self.options and self.options[name] != value:
                raise UserError(
                    f'{place}: was made with {name}={self.options[name]}, not {value}; predict in '
                    'the same way, or calibrate again'
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, of which `of_node` makes the same."""
        values = {name: getattr(self, name) for name in _fields(Calibration)}
        model = {name: getattr(self.model, name) for name in _fields(conformal.ErrorModel)}
        return {'version': FORMAT_VERSION, **values, 'model': model}

    def of_export(self, schema: KeypointSchema, level: float = LEVEL) -> dict[str, Any]:
        """Return what model.json of an export tells: 'uncertainty', this, and 'radii', the numbers
        by which utility.predict.exported.radii gives the radii of the level.

        Args:
            level: Share of the points that a radius is to hold.

        Raises:
            UserError: The level is not between 0 and 1, or the heat maps would be needed.
        """
        if self.features != POINT_FEATURES:
            raise UserError(f'an export tells {", ".join(POINT_FEATURES)} of its points alone')
        own = dataclasses.replace(self, keypoints=schema.keypoints)
        sizes = {
            category: {name: self._constant(f'{category}/{name}', level) for name in names}
            for category, names in schema.categories.items()
        }
        model = {name: list(getattr(self.model, name)) for name in ('low', 'high', 'weights')}
        return {'uncertainty': own.to_dict(), 'radii': {'level': level, **model, 'sizes': sizes}}

    def _constant(self, group: str, level: float) -> float | None:
        """Return the radius of a point of the least features, px; None if it is infinite."""
        factor = conformal.quantile(self._pooled.of(group, level), level)
        return factor * self.model.constant(group) if math.isfinite(factor) else None

    def write(self, path: str | os.PathLike) -> None:
        """Write the file that `load` reads."""
        write_bytes(path, (json.dumps(self.to_dict()) + '\n').encode())


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def plain_options(options: PredictOptions) -> dict[str, Any]:
    """Return what of the options matters, as JSON gives it back."""
    values = dataclasses.asdict(options)
    return json.loads(json.dumps({name: values[name] for name in _OPTIONS}))


def read(path: str | os.PathLike) -> Calibration:
    """Read what Calibration.write wrote.

    Raises:
        UserError: It cannot be read, or is something else; names the place.
    """
    return of_node(read_json(path))


def of_node(node: Node) -> Calibration:
    """Return the calibration that an object of JSON holds; raises as `read`."""
    if node.field('version').of(int) != FORMAT_VERSION:
        raise node.error(f'is of version {node.field("version").value}, not {FORMAT_VERSION}')
    features = node.field('features').texts()
    if not features or not set(features) <= set(FEATURES) or len(set(features)) < len(features):
        raise node.error(f'features must be different ones of {", ".join(FEATURES)}')
    scores = _scores(node.field('scores'))
    if not any(scores.values()):
        raise node.error('holds no score of a point')
    count = len(features)
    return Calibration(
        keypoints=node.field('keypoints').texts(),
        features=features,
        options=node.field('options').of(dict),
        pictures=node.field('pictures').of(int),
        model=_error_model(node.field('model'), count),
        scores=scores,
        lengths=_scores(node.field('lengths')),
        known={
            name: tuple(tuple(_bounded(row, _MOST_FEATURE, count)) for row in rows.items())
            for name, rows in node.field('known').fields()
        },
    )


def _error_model(node: Node, count: int) -> conformal.ErrorModel:
    offsets = {name: value.of(float) for name, value in node.field('offsets').fields()}
    low, high = (_bounded(node.field(name), _MOST_FEATURE, count) for name in ('low', 'high'))
    if any(least > most for least, most in zip(low, high)):
        raise node.error('a number of low is above that of high')
    weights = node.field('weights').numbers(count)
    intercept = node.field('intercept').of(float)
    largest = abs(intercept) + sum(map(abs, weights)) + max(map(abs, offsets.values()), default=0)
    if largest > _MOST_LOGARITHM:
        raise node.error(f'tells of errors of more than exp({_MOST_LOGARITHM:g}) px, or of less')
    return conformal.ErrorModel(
        low=tuple(low),
        high=tuple(high),
        weights=tuple(map(float, weights)),
        offsets=offsets,
        intercept=intercept,
        floor=node.field('floor').of(float),
    )


def _bounded(node: Node, most: float, count: int | None = None) -> list[float]:
    """Return the numbers of a list, none larger than `most`, as float."""
    values = [float(value) for value in node.numbers(count)]
    if any(abs(value) > most for value in values):
        raise node.error(f'a number is larger than {most:g}')
    return values


def _scores(node: Node) -> dict[str, tuple[float, ...]]:
    scores = {name: tuple(_bounded(values, _MOST_SCORE)) for name, values in node.fields()}
    if any(score < 0 for values in scores.values() for score in values):
        raise node.error('a score is negative')
    return scores
