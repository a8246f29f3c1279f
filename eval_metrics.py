"""Scores predictions against answers: NE and PCK, over all, per category and per keypoint.

python eval_metrics.py --data_dir=RECORDS/val --model_dir=RUN[,RUN2] [--flip_test] [--passes=2]
python eval_metrics.py --prediction=SUBMISSION.csv --answers=ANNOTATIONS.csv [--missing=count]
python eval_metrics.py --prediction=SUBMISSION.csv --answers=RECORDS/val
python eval_metrics.py --prediction=A.csv --against=B.csv --answers=ANNOTATIONS.csv
python eval_metrics.py --data_dir=RECORDS/val --model_dir=RUN --against=RUN2

--uncertainty=FILE scores the radii about points that --save_uncertainty=FILE learned elsewhere.
--confidence adds how sure NE is; --against whether A is better than B, or too little is known.
--metrics=pck,auc,epe,oks adds tables of other metrics; --output_json holds all of them.

Of networks that tell the category of a picture, or the presence of its points, these are scored,
too. With --use_predicted_category a point that the predicted category does not have counts as
predicted at (-1, -1). --calibrate scales the probabilities by the pictures of --data_dir and keeps
that in the run, for all predictions from then on.
"""

from __future__ import annotations

import dataclasses
import os

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags, logging

from config import UserError
from preprocessing.datasets import named_schema
from preprocessing.files import check_output, json_bytes, write_bytes
from preprocessing.tables import read_table
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.command_line.text_table import text_table
from utility.metrics import attributes, baseline, measures, normalized_error
from utility.metrics.annotations import annotations_of, read_annotations
from utility.metrics.attributes import format_report
from utility.metrics.measures import LENGTHS
from utility.predict import flags as prediction_flags
from utility.predict import scoring_flags
from utility.statistics import bootstrap

METRIC_NAMES = ('ne', 'pck', 'auc', 'epe', 'oks')


def _define_flags() -> None:
    scoring_flags.define()
    prediction_flags.define_predicted_category()
    prediction_flags.define_uncertainty()
    flags.DEFINE_string(
        'save_uncertainty',
        None,
        'Where to write how far off points are by these pictures, a file for --uncertainty.',
    )
    flags.DEFINE_boolean('baseline', False, "Also score predicting each category's mean positions.")
    flags.DEFINE_string(
        'against',
        None,
        'What to compare with on the same pictures: a submission beside that of --prediction, or '
        'a run, or several with commas as one, beside those of --model_dir.',
    )
    flags.DEFINE_list(
        'metrics',
        [],
        f'Further tables, by category, of visible points and with occluded ones: some of '
        f'{", ".join(METRIC_NAMES)}. AP and AR of OKS are those for known boxes.',
    )
    flags.DEFINE_enum(
        'pck_by', 'normalizer', LENGTHS, 'The length of PCK and AUC in the further tables.'
    )
    flags.DEFINE_boolean('confidence', False, 'Also give the 95 % confidence intervals of NE.')
    flags.DEFINE_boolean(
        'calibrate', False, 'Scale the probabilities that the run tells by these pictures.'
    )
    flags.DEFINE_string('output_json', None, 'Where to write the numbers too.')


def assess(predictions, answers, schema, missing: str = 'error', confidence: bool = False):
    """Score predictions, and compare them with others of the same pictures.

    Args:
        predictions: One or two pairs of a name, for error messages, and a KeypointTable.
        schema: Of all of them.
        missing: As of utility.metrics.normalized_error.distances_to.
        confidence: Whether to estimate how sure NE is.

    Returns:
        The Score (utility.metrics.normalized_error) of the first, and its Comparison
        (utility.statistics.bootstrap) with the second; None without one.
    """
    results = []
    for name, table in predictions:
        try:
            results.append(normalized_error.distances_to(answers, table, schema, missing))
            if len(results) == 1:
                score = normalized_error.summarize(
                    results[0][0], answers.categories, schema, *results[0][1:], confidence
                )
        except ValueError as error:
            raise UserError(f'{name}: {error}') from error
    distances = [own for own, *_ in results]
    return score, bootstrap.compare(*distances) if len(distances) > 1 else None


def predict_runs(data_dir: str, run_dirs, options):
    """Predict a labelled split of the records with runs, as one predictor; return answers, too.

    Returns:
        The utility.predict.predictor.Predictions; points and annotations, two
        preprocessing.tables.KeypointTable in the same order, and their
        preprocessing.schema.KeypointSchema.
    """
    from utility.predict import predictor

    schema = runs.schema_of(run_dirs[0])
    answers = annotations_of(data_dir, schema)
    predictions = predictor.predict_split(run_dirs, data_dir, options)
    points, answers = _by_place(predictions.keypoints, answers)
    if options.use_predicted_category:
        # What the predicted category does not have is predicted as absent.
        points = points._replace(visibility=predictions.visibility)
    return predictions, points, answers, schema


def score_baseline(data_dir: str, run_dir: str):
    """Score what a network must beat: the mean positions in RECORDS/train of each category."""
    schema = runs.schema_of(run_dir)
    train_dir = os.path.join(os.path.dirname(data_dir.rstrip('/')), 'train')
    known, answers = annotations_of(train_dir, schema), annotations_of(data_dir, schema)
    positions = baseline.mean_positions(
        known.keypoints, known.visibility, known.image_sizes, known.categories
    )
    predicted = baseline.mean_position_baseline(positions, answers.image_sizes, answers.categories)
    return normalized_error.score(*_by_place(predicted, answers), schema)


def _by_place(keypoints, answers):
    """Return keypoints [N, K, 2], in the order of the annotations, as a table; and the annotations.

    One picture may lie in two splits under one id: then all are told apart by their places.
    """
    if len(set(answers.image_ids)) < len(answers.image_ids):
        answers = answers._replace(image_ids=answers.lines)
    return answers._replace(keypoints=keypoints), answers


def format_score(score) -> str:
    """Return a Score as an aligned table for people, NE and PCK in percent."""
    groups = [
        ({'all': score.normalized_error}, {'all': score.points}, {'all': score.pck}),
        (score.per_category, score.points_per_category, score.pck_per_category),
        (score.per_keypoint, score.points_per_keypoint, score.pck_per_keypoint),
    ]
    rows = [['', 'NE %', 'points', *(f'PCK@{threshold}' for threshold in score.pck)]]
    for errors, points, pck in groups:
        for name, error in errors.items():
            shares = [f'{100 * share:.2f}' for share in pck[name].values()]
            rows.append([name, f'{100 * error:.4f}', points[name], *shares])
        rows.append([])
    return '\n'.join(
        [
            text_table(rows),
            f'{score.images} images, {score.skipped_images} of them skipped: no normalizer',
            f'{score.missing_predictions} points to score had no prediction',
        ]
    )


def format_confidence(score) -> str:
    """Return the confidence intervals of a normalized_error.Score, NE in percent."""
    ends = {'all': score.confidence['normalized_error'], **score.confidence['per_category']}
    errors = {'all': score.normalized_error, **score.per_category}
    title = f'{100 * score.confidence["level"]:g} % confidence intervals of NE %'
    rows = (
        [name, f'{100 * errors[name]:.4f}', f'[{100 * low:.4f}, {100 * high:.4f}]']
        for name, (low, high) in ends.items()
    )
    return f'{title}\n{text_table(rows)}'


def format_comparison(comparison, prediction: str, against: str) -> str:
    """Return what a utility.statistics.bootstrap.Comparison says, in sentences."""
    value, low, high = (100 * end for end in comparison.difference)
    significant = comparison.p_value < 1 - comparison.level
    verdict = f'{prediction if value < 0 else against} is better' if significant else 'not settled'
    return '\n'.join(
        [
            f'{prediction} against {against}: {verdict}',
            f'difference of NE {value:+.4f} percentage points, '
            f'{100 * comparison.level:g} % interval [{low:+.4f}, {high:+.4f}], '
            f'p = {comparison.p_value:.4f}',
            f'better in {comparison.better}, worse in {comparison.worse} of {comparison.images} '
            f'images; a true difference of {100 * comparison.detectable:.4f} would be seen in '
            f'{100 * comparison.power:g} % of the cases',
        ]
    )


def format_measures(measured, names) -> str:
    """Return tables, by category, of what utility.metrics.measures.measure says.

    Args:
        names: Of METRIC_NAMES, the columns.
    """
    parts = []
    for scope, of_scope in measured.items():
        groups = {'all': of_scope['all'], **of_scope['per_category']}
        rows = [_measures_row(name, row, of_scope['oks'].get(name), names)
                for name, row in groups.items() if row]  # fmt: skip
        titles = list(dict.fromkeys(title for row in rows for title in row))
        cells = [[row.get(title, '') for title in titles] for row in rows]
        parts.append(f'{scope.replace("_", " ")} points\n{text_table([titles, *cells])}')
    return '\n\n'.join(parts)


def _measures_row(name: str, row, precision, names) -> dict[str, str]:
    """Return title -> cell of a category; `precision`: of oks.average_precision, or None."""

    def percent(value: float | None) -> str:
        return '-' if value is None else f'{100 * value:.2f}'

    cells = {'': name, 'points': str(row['points'])}
    if 'ne' in names and 'normalized_error' in row:
        cells['NE %'] = f'{100 * row["normalized_error"]:.4f}'
    if 'epe' in names:
        cells['EPE px'] = f'{row["epe"]:.3f}'
    if 'pck' in names and 'pck' in row:
        cells.update({f'PCK@{t}': percent(share) for t, share in row['pck'].items()})
    if 'auc' in names and 'auc' in row:
        cells['AUC'] = percent(row['auc'])
    if 'oks' in names and precision:
        titles = (title.replace('_', ' ') for title in precision)
        cells.update(zip(titles, map(percent, precision.values())))
    return cells


def _measured(values, predicted, answers, schema, scores=None):
    """Return what measures.measure says, if a table or a file of it is asked for."""
    if not (values.metrics or values.output_json):
        return None
    return measures.measure(predicted, answers, schema, scores, values.missing, values.pck_by)


def _of_csvs(values):
    """Return what assess says of --prediction and --against; what is measured of the first; CSVs
    tell nothing else.
    """
    schema = named_schema(values.dataset)
    answers = read_annotations(values.answers, schema)
    paths = filter(None, [values.prediction, values.against])
    named = [(f'{path} against {values.answers}', read_table(path, schema)) for path in paths]
    found = assess(named, answers, schema, values.missing, values.confidence)
    return *found, _measured(values, named[0][1], answers, schema), {}


def _of_runs(values):
    """Return what assess says of --model_dir and --against, what is measured of the former, and
    what utility.metrics.attributes says of it.
    """
    from utility.predict import predictor, probabilities, uncertainty

    options = prediction_flags.options(values)
    calibration, options = prediction_flags.uncertainty(values, values.model_dir, options)
    if values.save_uncertainty:
        options = dataclasses.replace(options, map_features=True)
    others = values.against.split(',') if values.against else []
    for run_dir in others:
        # A mistake in the last run is told before the first one has predicted for hours.
        runs.networks_for(run_dir, predictor.categories_of(values.data_dir))
    named, report, measured = [], {}, None
    for run_dirs in filter(None, [values.model_dir, others]):
        predictions, points, answers, schema = predict_runs(values.data_dir, run_dirs, options)
        named.append((f'{",".join(run_dirs)} on {values.data_dir}', points))
        if len(named) == 1:
            report = attributes.report_of(predictions, answers, schema)
            measured = _measured(values, points, answers, schema, predictions.mean_scores())
            if values.save_uncertainty:
                uncertainty.calibrate(predictions, answers, schema, options).write(
                    values.save_uncertainty
                )
                print(f'{values.save_uncertainty}: how far off points are, for --uncertainty')
            if calibration:
                if os.path.abspath(values.uncertainty) == os.path.abspath(values.data_dir):
                    logging.warning(
                        'the radii were learned from %s itself: on other pictures they hold fewer '
                        'points',
                        values.data_dir,
                    )
                told = values.uncertainty_level, values.reject_above
                radii = calibration.radii(predictions, values.uncertainty_level)
                uncertainty.warn_of_shift(calibration, predictions)
                found = uncertainty.assess(radii, predictions, answers, schema, *told)
                print(f'{uncertainty.format_assessment(found)}\n')
                report['uncertainty'] = found.to_dict()
            if values.calibrate:
                for path in probabilities.fit_run(
                    run_dirs, predictions, answers, schema, values.data_dir
                ):
                    print(f'{path}: the scaling of probabilities by {len(answers.lines)} pictures')
    missing = 'count' if options.use_predicted_category else 'error'
    found = assess(named, answers, schema, missing, values.confidence)
    return *found, measured, report


def _check_metrics(values) -> None:
    unknown = [name for name in values.metrics if name not in METRIC_NAMES]
    if unknown:
        raise UserError(f'--metrics={unknown[0]}: must be some of {", ".join(METRIC_NAMES)}')
    if values['pck_by'].present and not (values.metrics or values.output_json):
        raise UserError('--pck_by is for --metrics and --output_json')


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    are_csvs = scoring_flags.are_csvs_given(values)
    for name in ('baseline', 'calibrate', 'save_uncertainty'):
        if values[name].value and are_csvs:
            raise UserError(f'--{name} needs --data_dir and --model_dir')
    _check_metrics(values)
    for path in filter(None, (values.output_json, values.save_uncertainty)):
        check_output(path)
    score, comparison, measured, attributes_report = (_of_csvs if are_csvs else _of_runs)(values)
    print(format_score(score))
    if attributes_report.keys() - {'uncertainty'}:
        print(f'\n{format_report(attributes_report)}')
    if values.baseline:
        error = 100 * score_baseline(values.data_dir, values.model_dir[0]).normalized_error
        print(f"baseline, each category's mean positions: NE {error:.4f} %")
    if values.metrics:
        print(f'\n{format_measures(measured, values.metrics)}')
    if values.confidence:
        print(f'\n{format_confidence(score)}')
    if comparison:
        name = values.prediction or ','.join(values.model_dir)
        print(f'\n{format_comparison(comparison, name, values.against)}')
    if values.output_json:
        report = {**dataclasses.asdict(score), **attributes_report}
        report.update(pck_by=values.pck_by, metrics=measured)
        if comparison:
            report['comparison'] = {'against': values.against, **comparison.to_dict()}
        write_bytes(values.output_json, json_bytes(report))


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
