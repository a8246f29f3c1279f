"""The flags of the scripts that compare predictions with annotations, of runs or of CSVs."""

from __future__ import annotations

from absl import flags

from config import UserError
from utility.command_line import scripts
from utility.metrics.normalized_error import MISSING_POLICIES
from utility.predict import flags as prediction_flags

_OF_CSVS = ('missing', 'dataset')


def define() -> None:
    """Define the flags, those of prediction_flags among them."""
    flags.DEFINE_string('data_dir', None, 'A labelled split of the records, RECORDS/val.')
    flags.DEFINE_list('model_dir', None, 'The run to score, or several with commas as one.')
    prediction_flags.define()
    flags.DEFINE_string('prediction', None, 'The submission to score, a CSV.')
    flags.DEFINE_string('answers', None, 'Their annotations, a CSV or RECORDS/val.')
    flags.DEFINE_enum(
        'missing',
        'error',
        MISSING_POLICIES,
        'What to do with a scored point that is predicted as -1_-1_-1: stop, score it as a '
        'prediction at (-1, -1), or leave it out.',
    )
    scripts.define_dataset()


def are_csvs_given(values, with_data_dir: bool = False) -> bool:
    """Return whether a submission is to be scored, and not runs.

    Args:
        with_data_dir: Whether records may come with a submission.

    Raises:
        UserError: It is neither or both, or a flag that was given belongs to the other.
    """
    csvs, runs = (values.prediction, values.answers), (values.data_dir, values.model_dir)
    only_csvs = all(csvs) and not values.model_dir and (with_data_dir or not values.data_dir)
    if not (only_csvs or all(runs) and not any(csvs)):
        raise UserError('give either --prediction and --answers, or --data_dir and --model_dir')
    if only_csvs:
        prediction_flags.refuse()
    for name in () if only_csvs else _OF_CSVS:
        if values[name].present:
            raise UserError(f'--{name} is for --prediction and --answers only')
    return only_csvs
