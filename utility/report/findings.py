"""All that a report tells of a run, as values: nothing here knows how it looks."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import config
from config import Experiment, UserError
from preprocessing import records
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility import sweep
from utility.checkpoints import evaluations, runs, snapshots
from utility.command_line import environment
from utility.command_line.progress import Stopwatch
from utility.errors import budget, cases
from utility.metrics import attributes, normalized_error
from utility.metrics.annotations import annotations_of
from utility.predict import flags as prediction_flags
from utility.predict import fusion, predictor, uncertainty
from utility.predict.predictor import Predictions
from utility.visualization import draw, html_page

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PCK_CURVE = tuple(np.round(np.arange(0, 0.3001, 0.01), 2))
_PICTURE_SIDE = 480  # px
_LEAST_SCORED = 3  # points of a picture that is among the best


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of a run.

    Attributes:
        folder: With its checkpoints.
        categories: That it predicts.
        experiment: What was trained.
        step: Of the weights that are used; None of a mean of several.
        start: The weights that its training started from; None: from nothing.
        parameters: How many weights it has.
        command: That trains it again, with --data_dir=RECORDS.
        validation: Of its training, at that step: name -> number.
    """

    folder: str
    categories: Sequence[str]
    experiment: Experiment
    step: int | None
    start: str | None
    parameters: int
    command: str
    validation: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Picture:
    """One of the best or worst pictures: its error as a share of the normalizer, and itself."""

    image_id: str
    category: str
    error: float
    picture: html_page.DecodedImage


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is known of a run; numbers are fractions or px.

    Attributes:
        name: Of the run.
        source: The run and the split, for people.
        networks: Of the run.
        split_dir: That it is scored on.
        splits: Split of the records -> category -> number of records.
        schema: Of the data.
        options: How was predicted, as the words of flags.
        score: With intervals.
        pck_curve: 'all' and categories -> the share of points within each of PCK_CURVE.
        radii: How the radii did; None where there are too few pictures to learn them.
        radii_from: Where they were learned.
        coverage: The share of points that radii at each of LEVELS hold; empty without radii.
        attributes: As of metrics.attributes.report_of; empty where the networks tell nothing.
        errors: The error budget, as eval_errors writes it.
        best, worst: Pictures.
        pictures_per_second: Of prediction, on `machine`.
        machine: In words.
    """

    name: str
    source: str
    networks: Sequence[Network]
    split_dir: str
    splits: Mapping[str, Mapping[str, int]]
    schema: KeypointSchema
    options: str
    score: normalized_error.Score
    pck_curve: Mapping[str, Sequence[float]]
    radii: uncertainty.Assessment | None
    radii_from: str
    coverage: Sequence[float]
    attributes: Mapping[str, Any]
    errors: Mapping[str, Any]
    best: Sequence[Picture]
    worst: Sequence[Picture]
    pictures_per_second: float
    machine: str

    def numbers(self) -> dict[str, float]:
        """Return what trackers get: name -> number."""
        score = self.score
        numbers = {'normalized_error': score.normalized_error, 'points': score.points}
        low, high = score.confidence['normalized_error']
        numbers.update(normalized_error_low=low, normalized_error_high=high)
        numbers.update({f'normalized_error/{n}': e for n, e in score.per_category.items()})
        numbers.update({f'pck/{threshold}': share for threshold, share in score.pck.items()})
        if self.radii:
            numbers.update(
                coverage=self.radii.coverage,
                mean_radius=self.radii.mean_radius,
                median_radius=self.radii.median_radius,
            )
        kinds = self.errors['kinds']
        numbers.update({f'errors/{n}': row['normalized_error'] for n, row in kinds.items()})
        numbers['pictures_per_second'] = self.pictures_per_second
        return {name: float(value) for name, value in numbers.items()}


def collect(run_dir: str, values) -> Findings:
    """Predict a split and return all that there is to tell.

    Args:
        values: The flags of utility.report.

    Raises:
        UserError: As predictor.predict_split and metrics.annotations.annotations_of.
    """
    options = prediction_flags.options(values)
    calibration, options = prediction_flags.uncertainty(values, [run_dir], options)
    if calibration is None:
        options = dataclasses.replace(options, map_features=True)
    schema = runs.schema_of(run_dir)
    annotations = annotations_of(values.data_dir, schema)
    watch = Stopwatch(options.batch_size, options.passes)
    predictions = predictor.predict_split([run_dir], values.data_dir, options, watch)
    predicted = annotations._replace(keypoints=predictions.keypoints, image_ids=annotations.lines)
    by_place = annotations._replace(image_ids=annotations.lines)
    source = f'{run_dir} on {values.data_dir}'
    case = cases.Case(source, predicted, by_place, annotations.image_ids, schema)
    errors = budget.find_errors(predicted, by_place, schema)
    distances, *counts = normalized_error.distances_to(by_place, predicted, schema)
    score = normalized_error.summarize(
        distances, annotations.categories, schema, *counts, confidence=True
    )
    told = _radii(predictions, by_place, schema, options, calibration, values)
    best, worst = _extremes(distances, values.pictures)
    _, images = cases.read_images(case, {*best, *worst}, values.data_dir)
    drawn = {
        row: _picture(row, images[row], predictions, annotations, distances, told['found'], schema)
        for row in images
    }
    info, _ = records.info_of_split(values.data_dir)
    return Findings(
        name=os.path.basename(run_dir.rstrip('/')),
        source=source,
        networks=_networks(run_dir, sorted(set(annotations.categories)), options),
        split_dir=values.data_dir,
        splits={name: split['records'] for name, split in info['splits'].items()},
        schema=schema,
        options=_words_of(values),
        score=score,
        pck_curve=_pck_curve(distances, annotations.categories, schema),
        radii=told['radii'],
        radii_from=told['radii_from'],
        coverage=told['coverage'],
        attributes=attributes.report_of(predictions, annotations, schema),
        errors=cases.report_of(case, errors, 'error', budget.SCALE, annotations.image_sizes),
        best=[drawn[row] for row in best if row in drawn],
        worst=[drawn[row] for row in worst if row in drawn],
        pictures_per_second=watch.rate(),
        machine=environment.describe_processor(),
    )


def _words_of(values) -> str:
    """Return the flags of prediction that were given, as words of a command."""
    flags_of = values.get_flags_for_module(prediction_flags.__name__)
    return ' '.join(flag.serialize() for flag in flags_of if flag.present)


def _pck_curve(distances: np.ndarray, categories, schema: KeypointSchema) -> dict[str, list]:
    parts = {'all': distances}
    parts.update({c: distances[np.asarray(categories) == c] for c in schema.categories})
    scored = {name: part[~np.isnan(part)] for name, part in parts.items()}
    return {
        name: [float((part <= threshold).mean()) for threshold in PCK_CURVE]
        for name, part in scored.items()
        if len(part)
    }


def _radii(
    predictions: Predictions, annotations: KeypointTable, schema, options, calibration, values
) -> dict[str, Any]:
    """Return 'found', the radii [N, K] at the level, or NaN, and the fields of Findings."""
    level, where = values.uncertainty_level, values.uncertainty
    if calibration is not None:
        uncertainty.warn_of_shift(calibration, predictions)
        by_level = {own: calibration.radii(predictions, own) for own in {*LEVELS, level}}
    else:
        where = f'the other half of {values.data_dir}'
        try:
            by_level = _by_halves(predictions, annotations, schema, options, {*LEVELS, level})
        except UserError as error:
            nothing = np.full(predictions.visibility.shape, np.nan)
            return {'found': nothing, 'radii': None, 'radii_from': str(error), 'coverage': ()}
    told = level, values.reject_above
    assessed = uncertainty.assess(by_level[level], predictions, annotations, schema, *told)
    annotated = (predictions.visibility >= 0) & (annotations.visibility >= 0)
    errors = np.linalg.norm(predictions.keypoints - annotations.keypoints, axis=-1)[annotated]
    coverage = [float(np.mean(errors <= by_level[own][annotated])) for own in LEVELS]
    radii = by_level[level]
    return {'found': radii, 'radii': assessed, 'radii_from': where, 'coverage': coverage}


def _by_halves(predictions, annotations, schema, options, levels) -> dict[float, np.ndarray]:
    """Return level -> radii [N, K] of all pictures, each half calibrated by the other."""
    first = uncertainty.chosen_half(predictions.categories, seed=1)
    by_level = {level: np.full(predictions.visibility.shape, np.nan) for level in levels}
    for asked in (first, ~first):
        known = predictions.rows(~asked)
        table = annotations.rows(np.flatnonzero(~asked))
        calibration = uncertainty.calibrate(known, table, schema, options)
        own = predictions.rows(asked)
        for level, radii in by_level.items():
            radii[asked] = calibration.radii(own, level)
    return by_level


def _extremes(distances: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Return the rows of the least and of the largest mean error, at most half of all each."""
    scored = ~np.isnan(distances)
    counts = scored.sum(1)
    means = np.where(scored, distances, 0).sum(1) / np.maximum(counts, 1)
    rows = np.flatnonzero(counts > 0)
    count = min(count, len(rows) // 2)
    worst = rows[np.argsort(-means[rows], kind='stable')][:count]
    rows = rows[counts[rows] >= min(_LEAST_SCORED, counts.max())]
    best = rows[np.argsort(means[rows], kind='stable')][:count]
    return best.tolist(), worst.tolist()


def _picture(row, decoded, predictions, annotations, distances, radii, schema) -> Picture:
    """Return a picture with annotations as crosses, predictions as discs, and circles."""
    import cv2

    from preprocessing.conversion.images import pixels

    image = pixels(decoded)
    scale = _PICTURE_SIDE / max(image.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    visibility = predictions.likely_visibility()[row]
    known = annotations.keypoints[row] * scale, annotations.visibility[row]
    drawn = draw.draw_keypoints(
        image,
        predictions.keypoints[row] * scale,
        visibility,
        schema,
        annotated=known,
        radii=radii[row] * scale,
    )
    image_id, category = str(annotations.image_ids[row]), str(annotations.categories[row])
    error = float(np.nanmean(distances[row]))
    alt = f'{category} {image_id}: predictions, annotations and circles; NE {100 * error:.1f} %'
    return Picture(image_id, category, error, html_page.picture(drawn, alt))


def _networks(run_dir: str, categories: Sequence[str], options) -> list[Network]:
    import tempfile

    networks = []
    with tempfile.TemporaryDirectory() as scratch:
        for folder, own in runs.networks_for(run_dir, categories).items():
            trained = fusion.load_network(folder, options, scratch)
            weights = snapshots.read_weights(trained.checkpoint)
            try:
                step = snapshots.step_of(trained.checkpoint)
            except UserError:
                step = None
            networks.append(
                Network(
                    folder=folder,
                    categories=own,
                    experiment=trained.experiment,
                    step=step,
                    start=runs.init_checkpoint(folder),
                    parameters=int(sum(np.size(value) for value in weights.values())),
                    command=command_of(folder, runs.load_experiment(folder)),
                    validation=evaluations.read(folder).get(step, {}),
                )
            )
    return networks


def command_of(folder: str, experiment: Experiment) -> str:
    """Return the command that trains a network again: the recipe of its backbone and head, or the
    one that most fields agree with, and a --set for each field that differs.
    """
    wanted = _fields(experiment)
    backbone, head = experiment.network.backbone, experiment.network.head
    root = pathlib.Path(config.__file__).parent
    recipes = {
        path.name: _fields(sweep.load_experiment(str(path)))
        for path in sorted(root.glob('train_*.py'))
    }
    named = [name for name in recipes if name == f'train_{backbone}_{head}.py']
    script = min(named or recipes, key=lambda name: len(_differing(recipes[name], wanted)))
    category = experiment.data.category
    words = ['python', script, '--data_dir=RECORDS', f'--category={category}']
    start = runs.init_checkpoint(folder)
    if start:
        words.append(f'--init_checkpoint={start}')
    for key in _differing(recipes[script], wanted):
        if key != 'data.category':
            words += _settings(key, recipes[script][key], wanted[key])
    return shlex.join(words)


def _settings(key: str, there: Any, wanted: Any) -> list[str]:
    """Return the --set of a field: of options one for each that differs, if none is dropped."""
    if isinstance(wanted, Mapping) and there.keys() <= wanted.keys():
        changed = {name: value for name, value in wanted.items() if there.get(name) != value}
        return [f'--set={key}.{name}={_literal(value)}' for name, value in changed.items()]
    return [f'--set={key}={_literal(wanted)}']


def _fields(experiment: Experiment) -> dict[str, Any]:
    """Return the fields of an experiment, of its sections with dotted names."""
    fields = {}
    for name, value in dataclasses.asdict(experiment).items():
        is_section = dataclasses.is_dataclass(getattr(experiment, name))
        own = {f'{name}.{inner}': part for inner, part in value.items()} if is_section else {}
        fields.update(own or {name: value})
    return fields


def _differing(recipe: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [key for key, value in wanted.items() if recipe[key] != value]


def _literal(value: Any) -> str:
    """Return a value as --set reads it."""
    if isinstance(value, (list, tuple)):
        return ','.join(map(str, value)) + (',' if len(value) == 1 else '')
    return 'none' if value is None else str(value)
