"""Predicts a test split and writes the submission CSV.

    python eval_submission.py --data_dir=RECORDS/test_0 --model_dir=RUN[,RUN2] --output_csv=PATH
    python eval_submission.py --data_dir=RECORDS/test_0 --backbone=resnet50_cpn

With several runs their heat maps are averaged (--fuse=heatmaps), or their points are. Of networks
that tell category or presence the probabilities are written beside it, PATH_probabilities.csv.
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
from utility.command_line import scripts
from utility.predict import flags as prediction_flags


def _define_flags() -> None:
    flags.DEFINE_string('data_dir', None, 'A test split of the records, RECORDS/test_0.')
    flags.DEFINE_list('model_dir', None, 'One run, or several with commas.')
    flags.DEFINE_string(
        'backbone', None, 'Short for --model_dir=logs/NAME --output_csv=NAME_sub.csv.'
    )
    flags.DEFINE_string('output_csv', None, 'The submission.')
    flags.DEFINE_boolean(
        'copy_to_model_dir', False, 'Copy the CSV into the (first) --model_dir as well.'
    )
    prediction_flags.define()
    prediction_flags.define_uncertainty()


def _runs_and_output(values) -> tuple[list[str], str]:
    """Return the runs to predict with and the path to write."""
    if not values.data_dir:
        raise UserError('--data_dir is missing: the records of a test split')
    if bool(values.backbone) == bool(values.model_dir):
        raise UserError('give either --model_dir or --backbone')
    if values.backbone:
        run = os.path.join(config.DEFAULT_LOGS_DIR, values.backbone)
        return [run], values.output_csv or f'{values.backbone}_sub.csv'
    if not values.output_csv:
        raise UserError('--output_csv is missing: the path of the submission')
    return values.model_dir, values.output_csv


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    run_dirs, output = _runs_and_output(values)

    from preprocessing import records
    from utility.checkpoints import runs
    from utility.predict import predictor, probabilities, uncertainty
    from utility.submissions import write

    options = prediction_flags.options(values)
    categories = predictor.categories_of(values.data_dir)
    for run_dir in run_dirs:
        # A mistake in the last run is told before the first one has predicted for hours.
        runs.networks_for(run_dir, categories)
    schema = runs.schema_of(run_dirs[0])
    calibration, options = prediction_flags.uncertainty(values, run_dirs, options)
    predictions = predictor.predict_split(run_dirs, values.data_dir, options)
    write.write_submission(
        output,
        predictions.image_ids,
        predictions.categories,
        predictions.keypoints,
        predictions.image_sizes,
        schema,
        expected_ids=predictions.image_ids,
    )
    print(f'{output}: {len(predictions.image_ids)} pictures')
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
