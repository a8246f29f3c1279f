"""Scores predictions against answers: NE and PCK, over all, per category and per keypoint.

python eval_metrics.py --data_dir=RECORDS/val --model_dir=RUN[,RUN2] [--flip_test] [--passes=2]
python eval_metrics.py --prediction=SUBMISSION.csv --answers=ANNOTATIONS.csv [--missing=count]
python eval_metrics.py --prediction=A.csv --against=B.csv --answers=ANNOTATIONS.csv

--confidence adds how sure NE is; --against whether A is better than B, or too little is known.
"""

from __future__ import annotations

import json
import os

from absl import flags

from utility import command_line, prediction_flags, scoring_flags


def _define_flags() -> None:
    scoring_flags.define()
    flags.DEFINE_boolean('baseline', False, "Also score predicting each category's mean positions.")
    flags.DEFINE_string('against', None, 'Another submission, to compare --prediction with.')
    flags.DEFINE_boolean('confidence', False, 'Also give the 95 % confidence intervals of NE.')
    flags.DEFINE_string('output_json', None, 'Where to write the numbers too.')


def score_csv(prediction: str, answers: str, dataset: str, missing: str, confidence: bool = False):
    """Scores a submission: the utility.metrics.Score of two CSVs."""
    from preprocessing.datasets import DATASETS
    from preprocessing.tables import read_table
    from utility import metrics

    schema = DATASETS.get(dataset).schema
    tables = [read_table(path, schema) for path in (prediction, answers)]
    try:
        return metrics.score(*tables, schema, missing, confidence)
    except ValueError as error:
        raise ValueError(f'{prediction} against {answers}: {error}') from error


def compare_csvs(prediction: str, against: str, answers: str, dataset: str, missing: str):
    """Whether one submission is better than another: a utility.statistics.Comparison."""
    from preprocessing.datasets import DATASETS
    from preprocessing.tables import read_table
    from utility import metrics, statistics

    schema = DATASETS.get(dataset).schema
    truth, distances = read_table(answers, schema), []
    for path in (prediction, against):
        try:
            predicted = read_table(path, schema)
            distances.append(metrics.distances_to(truth, predicted, schema, missing)[0])
        except ValueError as error:
            raise ValueError(f'{path} against {answers}: {error}') from error
    return statistics.compare(*distances)


def score_model(data_dir: str, run_dirs, options, confidence: bool = False):
    """Scores runs, as one predictor, on a labelled split of the records: a utility.metrics.Score.

    Args:
        data_dir: The split, RECORDS/val.
        run_dirs: The runs, at least one.
        options: A utility.predictor.PredictOptions.
        confidence: Whether to estimate how sure NE is.
    """
    from utility import predictor, runs
    from utility.answers import annotations_of

    schema = runs.schema_of(run_dirs[0])
    answers, _ = annotations_of(data_dir, schema)
    predicted = predictor.predict_split(run_dirs, data_dir, options)
    return _score_by_place(predicted.keypoints, answers, schema, confidence)


def score_baseline(data_dir: str, run_dir: str):
    """Scores what a network must beat: the mean positions in RECORDS/train of each category."""
    from utility import baseline, runs
    from utility.answers import annotations_of

    schema = runs.schema_of(run_dir)
    train_dir = os.path.join(os.path.dirname(data_dir.rstrip('/')), 'train')
    known, known_sizes = annotations_of(train_dir, schema)
    positions = baseline.mean_positions(
        known.keypoints, known.visibility, known_sizes, known.categories
    )
    answers, sizes = annotations_of(data_dir, schema)
    predicted = baseline.mean_position_baseline(positions, sizes, answers.categories)
    return _score_by_place(predicted, answers, schema)


def _score_by_place(keypoints, answers, schema, confidence=False):
    """Scores keypoints [N, K, 2] that stand in the order of the answers.

    Not by image_id: one picture may lie in two splits of the data set under one id.
    """
    from utility import metrics

    answers = answers._replace(image_ids=answers.lines)
    predicted = answers._replace(keypoints=keypoints)
    return metrics.score(predicted, answers, schema, confidence=confidence)


def format_score(score) -> str:
    """A utility.metrics.Score as an aligned table for people, NE in percent."""
    groups = [
        ({'all': score.normalized_error}, {'all': score.points}),
        (score.per_category, score.points_per_category),
        (score.per_keypoint, score.points_per_keypoint),
    ]
    width = max(len(name) for errors, _ in groups for name in errors)
    lines = [f'{"":{width}} {"NE %":>9} {"points":>8}']
    for errors, points in groups:
        lines += [f'{n:{width}} {100 * e:9.4f} {points[n]:8d}' for n, e in errors.items()] + ['']
    lines += [f'{f"PCK @ {t}":{width}} {100 * share:9.2f} %' for t, share in score.pck.items()]
    return '\n'.join(
        [
            *lines,
            '',
            f'{score.images} images, {score.skipped_images} of them skipped: no normalizer',
            f'{score.missing_predictions} points to score had no prediction',
        ]
    )


def format_confidence(score) -> str:
    """The confidence intervals of a utility.metrics.Score, NE in percent."""
    ends = {'all': score.confidence['normalized_error'], **score.confidence['per_category']}
    errors = {'all': score.normalized_error, **score.per_category}
    width = max(map(len, ends))
    title = f'{100 * score.confidence["level"]:g} % confidence intervals of NE %'
    rows = (
        f'{name:{width}} {100 * errors[name]:9.4f}  [{100 * low:.4f}, {100 * high:.4f}]'
        for name, (low, high) in ends.items()
    )
    return '\n'.join([title, *rows])


def format_comparison(comparison, prediction: str, against: str) -> str:
    """What a utility.statistics.Comparison says, in sentences."""
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


def main(positional: list[str]) -> None:
    command_line.no_positional(positional)
    values = flags.FLAGS
    are_csvs = scoring_flags.are_csvs_given(values)
    if values.against and not are_csvs:
        raise ValueError('--against compares with --prediction, and needs --answers')
    if values.baseline and are_csvs:
        raise ValueError('--baseline needs --data_dir and --model_dir')
    comparison = None
    if are_csvs:
        csvs = (values.answers, values.dataset, values.missing)
        score = score_csv(values.prediction, *csvs, values.confidence)
        if values.against:
            comparison = compare_csvs(values.prediction, values.against, *csvs)
        print(format_score(score))
    else:
        options = prediction_flags.options(values)
        score = score_model(values.data_dir, values.model_dir, options, values.confidence)
        print(format_score(score))
        if values.baseline:
            error = 100 * score_baseline(values.data_dir, values.model_dir[0]).normalized_error
            print(f"baseline, each category's mean positions: NE {error:.4f} %")
    if values.confidence:
        print(f'\n{format_confidence(score)}')
    if comparison:
        print(f'\n{format_comparison(comparison, values.prediction, values.against)}')
    if values.output_json:
        from preprocessing.tables import write_bytes

        report = json.loads(score.to_json())
        if comparison:
            report['comparison'] = {'against': values.against, **comparison.to_dict()}
        write_bytes(values.output_json, (json.dumps(report, indent=2) + '\n').encode())


if __name__ == '__main__':
    _define_flags()
    command_line.run(main, __doc__)
