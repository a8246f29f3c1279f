"""How far off each point may be: radii that are learned from pictures with known points.

    calibration = uncertainty.calibrate(predictions, annotations, schema, options)
    radii = calibration.radii(other_predictions, level=0.9)

A third of the pictures teaches how errors grow with what heat maps tell (conformal.ErrorModel of
utility.statistics, on the peak of the map, its spread, its second peak, how far mirrored and other
views disagree, and the extent of the garment); the scores of the others give the radii, by keypoint
and category where there are enough of them. A radius holds the annotated point in a share `level`
of the cases, if pictures are like those that calibrated: `shifts` says where they are not. Pictures
are what is exchangeable, not points: of the points of a picture one is often wrong where another
is, so that of few pictures the share varies more than the number of points lets one think.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from config import UserError
from preprocessing.files import csv_bytes, write_bytes
from preprocessing.json_input import Node, read_json
from preprocessing.schema import KeypointSchema, Measurement
from preprocessing.tables import KeypointTable
from utility.command_line.text_table import text_table
from utility.statistics import conformal

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions
    from utility.predict.views_to_points import PredictOptions

FILE = 'uncertainty.json'
LEVEL = 0.9
FORMAT_VERSION = 1
# Without the maps themselves, as of an exported network, those of POINT_FEATURES are known.
POINT_FEATURES = ('peak', 'log_peak', 'extent')
FEATURES = (*POINT_FEATURES, 'spread', 'second_peak', 'disagreement')
# What of an experiment's prediction changes the features or the errors.
_OPTIONS = ('flip_test', 'passes', 'refine', 'fuse', 'outputs', 'smoothing', 'views')
# One picture in so many teaches the sizes of errors, which are few numbers; the others calibrate.
_LEARNS = 3
_FLOOR = 1.0  # px; of errors below it the logarithm would tell nothing but noise
_LEAST_PEAK, _LARGEST_PEAK = 1e-3, 1.5
_LEAST_LENGTH = 0.1  # px
_LEAST_RATIO = 1e-3
_MOST_KNOWN = 400  # pictures of a category that are kept to compare others with
_DECIMALS = 4
_ALARM = 0.01  # p-value of a shift that is warned of
# Lengths differ more from each other than points do, and of each there is one in a picture.
_BEYOND_OF_LENGTHS = 3
SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # of the points kept, of a risk-coverage curve


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
            category: Of the garment.
            name: Of the measurement.
            ends: The measurement.
            sizes: float [K], what `sizes` gives of the picture.
            level: Of the interval.
        """
        scores = self._pooled_lengths.of(f'{name}/{category}', level)
        return conformal.quantile(scores, level) * _length_size(ends, sizes, self.keypoints)

    def shifts(self, predictions: Predictions) -> list[conformal.Shift]:
        """Return how the pictures differ from those that calibrated; see conformal.shifts."""
        known = {name: np.array(rows) for name, rows in self.known.items()}
        return conformal.shifts(known, _pictures(predictions, self.features), self.features)

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
        for name, value in _plain(options).items():
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

    def write(self, path: str | os.PathLike) -> None:
        """Write the file that `load` reads."""
        write_bytes(path, (json.dumps(self.to_dict()) + '\n').encode())


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _plain(options: PredictOptions) -> dict[str, Any]:
    """Return what of the options matters, as JSON gives it back."""
    values = dataclasses.asdict(options)
    return json.loads(json.dumps({name: values[name] for name in _OPTIONS}))


def features_of(predictions: Predictions, names: Sequence[str] = FEATURES) -> np.ndarray:
    """Return what is known of each point without its true place: float64 [N, K, F].

    Raises:
        UserError: A feature of the heat maps is wanted, and they are not known.
    """
    points = predictions.keypoints.astype(np.float64)
    own = (predictions.visibility >= 0)[..., np.newaxis]
    low, high = np.where(own, points, np.inf).min(1), np.where(own, points, -np.inf).max(1)
    extent = np.where(own.any((1, 2)), (high - low).max(1), 1.0)
    peaks = np.clip(predictions.scores.astype(np.float64), _LEAST_PEAK, _LARGEST_PEAK)
    columns = {
        'peak': peaks,
        'log_peak': np.log(peaks),
        'extent': np.broadcast_to(np.log(np.maximum(extent, 1.0))[:, np.newaxis], peaks.shape),
    }
    if not set(names) <= columns.keys():
        if predictions.map_features is None:
            missing = sorted(set(names) - columns.keys())
            raise UserError(f'the predictions do not tell {", ".join(missing)} of the heat maps')
        maps = np.moveaxis(predictions.map_features.astype(np.float64), -1, 0)
        spread, second_peak, disagreement = maps
        columns['spread'] = np.log(np.maximum(spread, _LEAST_LENGTH))
        columns['second_peak'] = np.log(np.clip(second_peak, _LEAST_RATIO, 1.0))
        columns['disagreement'] = np.log(disagreement + _LEAST_LENGTH)
    return np.stack([columns[name] for name in names], axis=-1)


def _pictures(predictions: Predictions, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return category -> the means over points of the features of its pictures, [n, F]."""
    own = (predictions.visibility >= 0)[..., np.newaxis]
    features = np.where(own, features_of(predictions, names), 0.0)
    # Rounded, as they are in a file: the test compares which of two numbers is larger.
    means = np.round(features.sum(1) / np.maximum(own.sum(1), 1), _DECIMALS)
    categories = predictions.categories.astype(str)
    return {str(name): means[categories == name] for name in np.unique(categories)}


def calibrate(
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
    options: PredictOptions | None,
    features: Sequence[str] = FEATURES,
    seed: int = 0,
) -> Calibration:
    """Learn from pictures with known points, visible or occluded, how far off points are.

    Args:
        predictions: Of N pictures.
        annotations: Of the same pictures in the same order.
        schema: Of both, the whole one.
        options: How was predicted; None where there is one way only.
        features: Names in FEATURES.
        seed: Which pictures learn and which calibrate.

    Raises:
        UserError: There are too few pictures for any radius at the usual level.
    """
    known = _pictures(predictions, features)
    kept = {name: tuple(map(tuple, rows[:_MOST_KNOWN].tolist())) for name, rows in known.items()}
    learns = chosen_share(predictions.categories, seed, _LEARNS)
    annotated = (predictions.visibility >= 0) & (annotations.visibility >= 0)
    offsets = predictions.keypoints.astype(np.float64) - annotations.keypoints
    errors = np.linalg.norm(offsets, axis=-1)
    places = np.argwhere(annotated)
    names = schema.keypoints
    groups = np.array([f'{predictions.categories[row]}/{names[k]}' for row, k in places])
    of_first = learns[places[:, 0]] if len(places) else np.zeros(0, bool)
    least = math.ceil(LEVEL / (1 - LEVEL))
    if min(np.count_nonzero(of_first), np.count_nonzero(~of_first)) < least:
        raise UserError(
            f'{len(predictions.image_ids)} pictures with {len(places)} annotated points: too few '
            f'to tell how far off points are; at least {2 * least} points are needed'
        )
    values = features_of(predictions, features)[tuple(places.T)]
    flat = errors[tuple(places.T)]
    model = conformal.ErrorModel.fit(values[of_first], groups[of_first], flat[of_first], _FLOOR)
    last = ~of_first
    ratios = flat[last] / model.predict(values[last], groups[last])
    calibration = Calibration(
        keypoints=names,
        features=tuple(features),
        options={} if options is None else _plain(options),
        pictures=len(predictions.image_ids),
        model=model,
        scores=_sorted_groups(groups[last], ratios),
        lengths={},
        known=kept,
    )
    rows = np.flatnonzero(~learns)
    lengths = _length_scores(calibration, predictions, annotations, schema, rows)
    return dataclasses.replace(calibration, lengths=lengths)


def chosen_share(categories: Sequence[str], seed: int, one_in: int = 2) -> np.ndarray:
    """Return random pictures, bool [N]: of each category one in so many, to one picture."""
    generator = np.random.default_rng(seed)
    categories = np.asarray(categories, str)
    chosen = np.zeros(len(categories), bool)
    for place, name in enumerate(np.unique(categories)):
        rows = generator.permutation(np.flatnonzero(categories == name))
        chosen[rows[place % one_in :: one_in]] = True
    return chosen


def rows_of(predictions: Predictions, chosen: np.ndarray) -> Predictions:
    """Return the predictions of some pictures: bool [N]."""
    columns = {name: getattr(predictions, name) for name in _fields(type(predictions))}
    taken = {name: None if v is None else v[chosen] for name, v in columns.items()}
    return dataclasses.replace(predictions, **taken)


def _sorted_groups(groups: np.ndarray, values: np.ndarray) -> dict[str, tuple[float, ...]]:
    # Five digits: a file of them stays small, and no radius is known better.
    rounded = np.array([float(f'{value:.5g}') for value in values])
    return {
        str(name): tuple(np.sort(rounded[groups == name]).tolist()) for name in np.unique(groups)
    }


def length(ends: Measurement, points: np.ndarray, keypoints: Sequence[str]) -> float:
    """Return the length of a measurement between points [K, 2]; NaN where one is NaN."""
    middles = [points[[keypoints.index(name) for name in end]].mean(0) for end in ends]
    return float(np.linalg.norm(middles[0] - middles[1]))


def _length_size(ends: Measurement, sizes: np.ndarray, keypoints: Sequence[str]) -> float:
    """Return the size of a length's error, by those of its points [K], as if these were independent
    of each other; whether they are is for the calibration to tell.
    """
    own = [sizes[[keypoints.index(name) for name in end]] / len(end) for end in ends]
    return float(np.sqrt(np.square(np.concatenate(own)).sum()))


def _length_scores(
    calibration: Calibration,
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
    rows: np.ndarray,
) -> dict[str, tuple[float, ...]]:
    """Return errors of lengths over their sizes, of some pictures; see Calibration.lengths."""
    sizes = calibration.sizes(predictions)
    present = (annotations.visibility >= 0)[..., np.newaxis]
    true_points = np.where(present, annotations.keypoints.astype(np.float64), np.nan)
    groups, scores = [], []
    for row in rows:
        category = str(predictions.categories[row])
        for name, ends in schema.measurements_of(category).items():
            true = length(ends, true_points[row], schema.keypoints)
            if not math.isnan(true):
                error = abs(length(ends, predictions.keypoints[row], schema.keypoints) - true)
                groups.append(f'{name}/{category}')
                scores.append(error / _length_size(ends, sizes[row], schema.keypoints))
    return _sorted_groups(np.array(groups, str), np.array(scores))


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
    if not set(features) <= set(FEATURES):
        raise node.error(f'features must be of {", ".join(FEATURES)}')
    model, count = node.field('model'), len(features)
    return Calibration(
        keypoints=node.field('keypoints').texts(),
        features=features,
        options=node.field('options').of(dict),
        pictures=node.field('pictures').of(int),
        model=conformal.ErrorModel(
            low=tuple(model.field('low').numbers(count)),
            high=tuple(model.field('high').numbers(count)),
            weights=tuple(model.field('weights').numbers(count)),
            offsets={name: value.of(float) for name, value in model.field('offsets').fields()},
            intercept=model.field('intercept').of(float),
            floor=model.field('floor').of(float),
        ),
        scores=_scores(node.field('scores')),
        lengths=_scores(node.field('lengths')),
        known={
            name: tuple(tuple(row.numbers(count)) for row in rows.items())
            for name, rows in node.field('known').fields()
        },
    )


def _scores(node: Node) -> dict[str, tuple[float, ...]]:
    scores = {name: tuple(values.numbers()) for name, values in node.fields()}
    if any(score < 0 for values in scores.values() for score in values):
        raise node.error('a score is negative')
    return scores


def load(source: str, run_dirs: Sequence[str], options: PredictOptions) -> Calibration:
    """Return the calibration of a predictor.

    Args:
        source: A file that eval_metrics.py --save_uncertainty wrote, a folder with such a file of
            the name uncertainty.json, or a labelled split of the records, which is predicted now.
        run_dirs: The runs that are one predictor.
        options: How is predicted.

    Raises:
        UserError: It is none of these, or is of another predictor.
    """
    from preprocessing import records
    from utility.checkpoints import runs

    schema = runs.schema_of(run_dirs[0])
    path = file_of(source)
    if path:
        calibration = read(path)
        calibration.check(schema, options, path)
        return calibration
    try:
        records.check_is_split(source)
        records.load_dataset_info(os.path.dirname(source.rstrip('/')) or '.')
    except UserError as error:
        raise UserError(
            f'--uncertainty={source}: is no file, has no {FILE}, and is no labelled split of the '
            f'records ({error})'
        ) from error
    return of_split(source, run_dirs, options)


def file_of(source: str) -> str | None:
    """Return the path of the file that a source is or has; None where it has none."""
    import tensorflow as tf

    inside = os.path.join(source, FILE)
    if tf.io.gfile.exists(inside):
        return inside
    return source if tf.io.gfile.exists(source) and not tf.io.gfile.isdir(source) else None


def of_split(
    split_dir: str,
    run_dirs: Sequence[str],
    options: PredictOptions,
    features: Sequence[str] = FEATURES,
) -> Calibration:
    """Predict a labelled split of the records and calibrate on it; arguments as of `load`."""
    from utility.checkpoints import runs
    from utility.metrics.annotations import annotations_of
    from utility.predict import predictor

    schema = runs.schema_of(run_dirs[0])
    annotations, _ = annotations_of(split_dir, schema)
    options = dataclasses.replace(options, map_features=not set(features) <= set(POINT_FEATURES))
    predictions = predictor.predict_split(run_dirs, split_dir, options)
    return calibrate(predictions, annotations, schema, options, features)


def predicted_one_by_one(
    split_dir: str,
    schema: KeypointSchema,
    predict: Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]],
) -> tuple[Predictions, KeypointTable]:
    """Predict a labelled split by a function, picture by picture, beside its annotations.

    Args:
        split_dir: The split.
        schema: Of what is predicted, a whole one or that of a category.
        predict: From uint8 [H, W, 3] and a category to points [K, 2] px and scores [K].

    Raises:
        UserError: It is no labelled split with pictures of the schema's categories.
    """
    import tensorflow as tf

    from preprocessing import faults, records
    from preprocessing.conversion import images, integrity
    from utility.command_line.progress import track
    from utility.predict.predictor import Predictions

    records.check_is_split(split_dir)
    counts = records.count_by_category(split_dir)
    names = [name for name in schema.categories if counts.get(name)]
    if not names:
        raise UserError(f'{split_dir!r} has no pictures of {", ".join(schema.categories)}')
    integrity.check_split(split_dir, ','.join(names))
    files = records.record_files(records.split_patterns(split_dir, ','.join(names)))
    total = sum(counts[name] for name in names)
    examples = records.decoded(tf.data.TFRecordDataset(files), schema).as_numpy_iterator()
    rows = []
    for example in faults.named(track(examples, total, 'predicting'), files, schema):
        category = example['category'].decode()
        points, scores = predict(images.pixels(records.picture(example)), category)
        own = np.full(schema.num_keypoints, -1)
        own[list(schema.indices(category))] = 1
        known = example['keypoints'], example['visibility']
        rows.append((category, example['image_size'], points, scores, own, *known))
    categories, sizes, points, scores, own, keypoints, visibility = map(np.array, zip(*rows))
    lines = np.arange(len(rows)) + 2
    predictions = Predictions(lines, categories, sizes, points, scores, own)
    return predictions, KeypointTable(lines, categories, keypoints, visibility, lines)


@dataclasses.dataclass(frozen=True)
class Assessment:
    """How radii have done on pictures with known points.

    Attributes:
        level: That they were to hold.
        points: How many points.
        coverage: The share that they held.
        interval: Its 95 % interval, by a bootstrap over pictures; None of a single picture.
        mean_radius: px.
        median_radius: px.
        per_category: Category -> (coverage, low, high, points), low and high NaN of one picture.
        curve: Share of the points kept, the largest radius kept in px, NE of what is kept.
        rejected: What a limit of the radius leaves: 'above', px, 'points' that are rejected and
            'of' how many scored ones, and NE of the others, None without any; None: no limit.
    """

    level: float
    points: int
    coverage: float
    interval: tuple[float, float] | None
    mean_radius: float
    median_radius: float
    per_category: Mapping[str, tuple[float, float, float, int]]
    curve: Sequence[tuple[float, float, float]]
    rejected: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def assess(
    radii: np.ndarray,
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
    level: float = LEVEL,
    reject_above: float | None = None,
) -> Assessment:
    """Compare radii [N, K] with errors; arguments as of `calibrate`, and a limit of the radius, px.

    Raises:
        UserError: No point is annotated.
    """
    from utility.metrics import normalized_error

    annotated = (predictions.visibility >= 0) & (annotations.visibility >= 0)
    if not annotated.any():
        raise UserError('no annotated point, to compare radii with')
    errors = np.linalg.norm(predictions.keypoints - annotations.keypoints, axis=-1)
    held = np.where(annotated, errors <= radii, np.nan)
    normalizers = normalized_error.normalizers_of(annotations, schema)
    normalized = normalized_error.normalized_distances(
        predictions.keypoints, annotations.keypoints, annotations.visibility, normalizers
    )
    scored = ~np.isnan(normalized)
    categories = annotations.categories.astype(str)
    parts = {name: held[categories == name] for name in schema.categories}
    curve = conformal.risk_coverage(radii[scored], normalized[scored], SHARES)
    return Assessment(
        level=level,
        points=int(annotated.sum()),
        coverage=share(held)[0],
        interval=share(held)[1:] if len(held) > 1 else None,
        mean_radius=float(radii[annotated].mean()),
        median_radius=float(np.median(radii[annotated])),
        per_category={
            name: (*share(part), int(np.isfinite(part).sum()))
            for name, part in parts.items()
            if np.isfinite(part).any()
        },
        curve=curve if scored.any() else (),
        rejected=None
        if reject_above is None
        else _rejected(radii[scored], normalized[scored], reject_above),
    )


def _rejected(radii: np.ndarray, errors: np.ndarray, above: float) -> dict[str, Any]:
    kept = radii <= above
    error = float(errors[kept].mean()) if kept.any() else None
    count = int(np.count_nonzero(~kept))
    return {'above': above, 'points': count, 'of': len(radii), 'normalized_error': error}


def format_assessment(found: Assessment) -> str:
    """Return an Assessment as tables for people."""
    rows = [[f'radii of {100 * found.level:g} %', 'held %', '95 % interval', 'points']]
    every = (found.coverage, *(found.interval or (math.nan, math.nan)), found.points)
    for name, (held, low, high, points) in {'all': every, **found.per_category}.items():
        rows.append([name, f'{100 * held:.1f}', f'[{100 * low:.1f}, {100 * high:.1f}]', points])
    lines = [
        text_table(rows),
        f'radius: mean {found.mean_radius:.1f} px, median {found.median_radius:.1f} px',
    ]
    if found.curve:
        curve = [['points kept', 'largest radius, px', 'NE % of them']]
        curve += [[f'{100 * s:g} %', f'{r:.1f}', f'{100 * e:.2f}'] for s, r, e in found.curve]
        lines.append(text_table(curve))
    if found.rejected:
        error = found.rejected['normalized_error']
        rest = 'none is left' if error is None else f'NE of the others {100 * error:.4f} %'
        lines.append(
            '{points} of {of} scored points have a radius above {above:g} px; '.format(
                **found.rejected
            )
            + rest
        )
    return '\n'.join(lines)


def share(held: np.ndarray) -> tuple[float, float, float]:
    """Return the share of ones in [N, K], NaN left out, and its 95 % interval over pictures."""
    from utility.statistics.bootstrap import image_sums, ratio_interval

    sums, counts = image_sums(held)
    if len(sums) < 2:
        return float(sums.sum() / counts.sum()), math.nan, math.nan
    return tuple(ratio_interval(sums, counts))


def sentence_of(shifts: Sequence[conformal.Shift]) -> str | None:
    """Return what to warn of, where pictures are unlike those that calibrated; else None."""
    found = [shift for shift in shifts if shift.p_value < _ALARM]
    if not found:
        return None
    first = found[0]
    return (
        f'these pictures are unlike those that calibrated: {len(found)} of {len(shifts)} features '
        f'differ, most the {first.feature} of {first.group} (Kolmogorov-Smirnov distance '
        f'{first.distance:.2f}, p = {first.p_value:.2g}); radii may be too small or too large'
    )


def warn_of_shift(calibration: Calibration, predictions: Predictions) -> None:
    """Log a warning where pictures are unlike those that calibrated."""
    sentence = sentence_of(calibration.shifts(predictions))
    if sentence:
        logging.warning('%s', sentence)


COLUMNS = ('image_id', 'image_category', 'keypoint', 'x', 'y', 'score', 'radius', 'expected_error')


def table_of(
    calibration: Calibration,
    predictions: Predictions,
    level: float = LEVEL,
    reject_above: float | None = None,
) -> bytes:
    """Return a CSV with a row for each point: COLUMNS, and `rejected` where a limit is given."""
    radii = calibration.radii(predictions, level)
    expected = calibration.expected_errors(predictions)
    rows = [[*COLUMNS, *(['rejected'] if reject_above is not None else [])]]
    for row, k in np.argwhere(predictions.visibility >= 0):
        x, y = predictions.keypoints[row, k]
        numbers = (x, y, predictions.scores[row, k], radii[row, k], expected[row, k])
        cells = [predictions.image_ids[row], predictions.categories[row], calibration.keypoints[k]]
        cells += [f'{number:.4f}' for number in numbers]
        rows.append(cells)
        if reject_above is not None:
            rows[-1].append(int(radii[row, k] > reject_above))
    return csv_bytes(rows)
