"""Scores predictions against answers: NE and PCK, over all, per category and per keypoint.

python eval_metrics.py --data_dir=RECORDS/val --model_dir=RUN [--flip_test] [--passes=2]
python eval_metrics.py --prediction=SUBMISSION.csv --answers=ANNOTATIONS.csv [--missing=count]
"""

from __future__ import annotations

import os

from absl import flags

from utility import command_line


def _define_flags() -> None:
    flags.DEFINE_string('data_dir', None, 'A labelled split of the records, RECORDS/val.')
    flags.DEFINE_string('model_dir', None, 'The run to score.')
    flags.DEFINE_boolean('flip_test', False, "Average with the mirrored picture's heat maps.")
    flags.DEFINE_integer('passes', 1, '2: predict again on the box around the points.')
    flags.DEFINE_string('refine', None, 'How heat maps become points; default: as trained.')
    flags.DEFINE_integer('batch_size', 16, 'Pictures at a time.', lower_bound=1)
    flags.DEFINE_boolean('baseline', False, "Also score predicting each category's mean positions.")
    flags.DEFINE_string('prediction', None, 'The submission to score, a CSV.')
    flags.DEFINE_string('answers', None, 'The annotations of the same pictures, a CSV.')
    flags.DEFINE_enum(
        'missing',
        'error',
        ['error', 'count', 'skip'],
        'What to do with a scored point that is predicted as -1_-1_-1: stop, score it as a '
        'prediction at (-1, -1), or leave it out.',
    )
    flags.DEFINE_string('dataset', 'fashionai', 'Whose categories and keypoints the CSVs have.')
    flags.DEFINE_string('output_json', None, 'Where to write the numbers too.')


def score_csv(prediction: str, answers: str, dataset: str, missing: str):
    """Scores a submission: the utility.metrics.Score of two CSVs."""
    from preprocessing.datasets import DATASETS
    from preprocessing.tables import read_table
    from utility import metrics

    schema = DATASETS.get(dataset).schema
    tables = [read_table(path, schema) for path in (prediction, answers)]
    try:
        return metrics.score(*tables, schema, missing)
    except ValueError as error:
        raise ValueError(f'{prediction} against {answers}: {error}') from error


def score_model(data_dir: str, model_dir: str, options):
    """Scores a run on a labelled split of the records: a utility.metrics.Score.

    Args:
        data_dir: The split, RECORDS/val.
        model_dir: The run.
        options: A utility.predictor.PredictOptions.
    """
    from utility import predictor, runs

    schema = runs.schema_of(model_dir)
    answers, _ = predictor.annotations_of(data_dir, schema)
    predicted = predictor.predict_split(model_dir, data_dir, options)
    return _score_by_place(predicted.keypoints, answers, schema)


def score_baseline(data_dir: str, model_dir: str):
    """Scores what a network must beat: the mean positions in RECORDS/train of each category."""
    from utility import metrics, predictor, runs

    schema = runs.schema_of(model_dir)
    train_dir = os.path.join(os.path.dirname(data_dir.rstrip('/')), 'train')
    known, known_sizes = predictor.annotations_of(train_dir, schema)
    positions = metrics.mean_positions(
        known.keypoints, known.visibility, known_sizes, known.categories
    )
    answers, sizes = predictor.annotations_of(data_dir, schema)
    predicted = metrics.mean_position_baseline(positions, sizes, answers.categories)
    return _score_by_place(predicted, answers, schema)


def _score_by_place(keypoints, answers, schema):
    """Scores keypoints [N, K, 2] that stand in the order of the answers.

    Not by image_id: one picture may lie in two splits of the data set under one id.
    """
    from utility import metrics

    answers = answers._replace(image_ids=answers.lines)
    return metrics.score(answers._replace(keypoints=keypoints), answers, schema)


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


def main(positional: list[str]) -> None:
    command_line.no_positional(positional)
    values = flags.FLAGS
    by_csv, by_model = (values.prediction, values.answers), (values.data_dir, values.model_dir)
    if not (all(by_csv) and not any(by_model) or all(by_model) and not any(by_csv)):
        raise ValueError('give either --prediction and --answers, or --data_dir and --model_dir')
    if values.prediction:
        score = score_csv(values.prediction, values.answers, values.dataset, values.missing)
        print(format_score(score))
    else:
        from utility.predictor import PredictOptions

        options = PredictOptions(values.flip_test, values.passes, values.refine, values.batch_size)
        score = score_model(values.data_dir, values.model_dir, options)
        print(format_score(score))
        if values.baseline:
            error = 100 * score_baseline(values.data_dir, values.model_dir).normalized_error
            print(f"baseline, each category's mean positions: NE {error:.4f} %")
    if values.output_json:
        from preprocessing.tables import write_bytes

        write_bytes(values.output_json, score.to_json().encode())


if __name__ == '__main__':
    _define_flags()
    command_line.run(main, __doc__)
