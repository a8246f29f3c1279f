"""Predicts a test split and writes the submission CSV, or the points in another format.

    python eval_submission.py --data_dir=RECORDS/test_0 --model_dir=RUN[,RUN2] --output_csv=PATH
    python eval_submission.py --data_dir=RECORDS/test_0 --backbone=resnet50_cpn
    python eval_submission.py --data_dir=RECORDS/val --model_dir=RUN --output_format=coco
                              --output_dir=OUT [--boxes=BOXES.csv]

With several runs their heat maps are averaged (--fuse=heatmaps), or their points are. Of networks
that tell category or presence the probabilities are written beside it, PATH_probabilities.csv. The
formats are told in docs/data.md. With --boxes pictures are cropped to these boxes.
"""

from __future__ import annotations

import os
import sys

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

import config
from config import UserError
from preprocessing import files
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.predict import flags as prediction_flags
from utility.predict import output_flags
from utility.submissions import write


def _define_flags() -> None:
    flags.DEFINE_string('data_dir', None, 'A test split of the records, RECORDS/test_0.')
    flags.DEFINE_list('model_dir', None, 'One run, or several with commas.')
    flags.DEFINE_string(
        'backbone', None, 'Short for --model_dir=logs/NAME --output_csv=NAME_sub.csv.'
    )
    flags.DEFINE_string('output_csv', None, 'The submission.')
    flags.DEFINE_string(
        'output_dir', None, 'Of another --output_format: a new directory for its files.'
    )
    flags.DEFINE_boolean(
        'copy_to_model_dir', False, 'Copy the CSV into the (first) --model_dir as well.'
    )
    output_flags.define()
    prediction_flags.define()
    prediction_flags.define_uncertainty()


def _runs_and_output(values) -> tuple[list[str], str]:
    """Return the runs to predict with and the path to write, of a CSV or of a directory."""
    if not values.data_dir:
        raise UserError('--data_dir is missing: the records of a test split')
    if bool(values.backbone) == bool(values.model_dir):
        raise UserError('give either --model_dir or --backbone')
    output_flags.check(values, values.output_dir)
    is_csv = values.output_format == output_flags.CSV
    if is_csv and values.output_dir:
        raise UserError('--output_dir is for another --output_format than csv')
    if not is_csv and (values.output_csv or values.copy_to_model_dir):
        flag = 'output_csv' if values.output_csv else 'copy_to_model_dir'
        raise UserError(f'--{flag} is for --output_format=csv only; give --output_dir')
    if not is_csv and values.uncertainty:
        raise UserError('--uncertainty is for --output_format=csv only')
    output = values.output_csv if is_csv else values.output_dir
    if values.backbone:
        run = os.path.join(config.DEFAULT_LOGS_DIR, values.backbone)
        ending = 'sub.csv' if is_csv else values.output_format
        return [run], output or f'{values.backbone}_{ending}'
    if not output and is_csv:
        raise UserError('--output_csv is missing: the path of the submission')
    if not output:
        raise UserError(f'--output_dir is missing: for the files of {values.output_format}')
    return values.model_dir, output


def _write(values, output: str, predictions, schema, calibration) -> None:
    from preprocessing import records
    from utility.predict import probabilities, uncertainty

    count = len(predictions.image_ids)
    if values.output_format != output_flags.CSV:
        offset = records.point_offset(values.data_dir)
        paths = output_flags.write_predictions(values, output, predictions, schema, offset)
        shown = paths[0] if len(paths) == 1 else f'{output} ({len(paths)} files)'
        print(f'{shown}: {count} garments')
        return
    write.write_submission(
        output,
        predictions.image_ids,
        predictions.categories,
        predictions.keypoints,
        predictions.image_sizes,
        schema,
        expected_ids=predictions.image_ids,
    )
    print(f'{output}: {count} pictures')
    if predictions.category_probabilities is not None or predictions.presence is not None:
        beside = f'{output.removesuffix(".gz").removesuffix(".csv")}_probabilities.csv'
        files.write_bytes(beside, probabilities.table(predictions, schema))
        print(f'{beside}: what the networks tell of category and presence')
    if calibration:
        beside = f'{output.removesuffix(".gz").removesuffix(".csv")}_uncertainty.csv'
        told = values.uncertainty_level, values.reject_above
        files.write_bytes(beside, uncertainty.table_of(calibration, predictions, *told))
        print(f'{beside}: how far off each point may be')
        uncertainty.warn_of_shift(calibration, predictions)


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    run_dirs, output = _runs_and_output(values)
    if values.output_format == output_flags.CSV:
        files.check_output(output)

    from preprocessing import records
    from utility.predict import predictor

    options = prediction_flags.options(values)
    categories = predictor.categories_of(values.data_dir)
    for run_dir in run_dirs:
        # A mistake in the last run is told before the first one has predicted for hours.
        runs.networks_for(run_dir, categories)
    schema = runs.schema_of(run_dirs[0])
    output_flags.check_ids(values, schema)
    calibration, options = prediction_flags.uncertainty(values, run_dirs, options)
    boxes = output_flags.given_boxes(values, schema)
    predictions = predictor.predict_split(run_dirs, values.data_dir, options, given_boxes=boxes)
    _write(values, output, predictions, schema, calibration)
    if values.copy_to_model_dir:
        copy = os.path.join(run_dirs[0], os.path.basename(output))
        files.write_bytes(copy, files.read_bytes(output))
        print(f'{copy}: a copy')
    num_rejected = records.count_rejected(values.data_dir)
    if num_rejected:
        print(
            f'warning: {num_rejected} pictures of the split could not be read when it was '
            'converted; they are in rejected.csv and not in the submission',
            file=sys.stderr,
        )


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
