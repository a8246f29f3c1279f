"""The flags of every script that predicts, and the PredictOptions that they stand for."""

from __future__ import annotations

import dataclasses
import os

from absl import flags

from config import FUSIONS, MAX_BATCH, UserError
from nets.precision import PRECISION_HELP, PRECISIONS, XLA_HELP, Compute
from preprocessing.files import is_folder
from utility.predict import uncertainty as uncertain


def define(flip_test: bool = False, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Define the flags.

    Args:
        flip_test: The default of that one.
        flag_values: Where; by default those of the command line.
    """
    into = {'flag_values': flag_values}
    _define_views(flip_test, into)
    _define_weights(into)
    flags.DEFINE_integer('batch_size', 16, 'Pictures at a time.', 1, MAX_BATCH, **into)
    flags.DEFINE_enum('precision', 'float32', PRECISIONS, PRECISION_HELP, **into)
    flags.DEFINE_boolean('xla', False, XLA_HELP, **into)


def define_predicted_category() -> None:
    """Define the flag of the scripts that can do without the given category."""
    flags.DEFINE_boolean(
        'use_predicted_category',
        False,
        'Give the points of the category that the network tells, not of the one that is given.',
    )


def _define_views(flip_test: bool, into: dict) -> None:
    """Define what tells how an image is looked at, and how heat maps become points."""
    flags.DEFINE_boolean(
        'flip_test', flip_test, "Average with the mirrored picture's heat maps.", **into
    )
    flags.DEFINE_integer('passes', 1, '2: predict again on the box around the points.', **into)
    flags.DEFINE_string('refine', None, 'How heat maps become points; default: as trained.', **into)
    flags.DEFINE_float('smoothing', 0.0, 'Gaussian over the heat maps before that, cells.', **into)
    flags.DEFINE_string(
        'outputs',
        'last',
        "Heat maps of a network: 'last', 'all' (the mean of its outputs), or weights with commas, "
        'coarse to final, the last of which is repeated.',
        **into,
    )
    flags.DEFINE_string(
        'scales', '1', 'Also predict at these enlargements, such as 0.9,1,1.1.', **into
    )
    flags.DEFINE_string(
        'rotations', '0', 'Also predict turned by these degrees, such as -10,0,10.', **into
    )
    flags.DEFINE_integer('num_crops', 0, 'Also predict on so many slightly moved crops.', **into)
    flags.DEFINE_enum(
        'fuse',
        'heatmaps',
        FUSIONS,
        'What of all views and networks of a picture is averaged.',
        **into,
    )


def _define_weights(into: dict) -> None:
    """Define what tells which weights are used."""
    flags.DEFINE_string(
        'checkpoint',
        'best',
        "Weights of each network: 'best' by validation NE, 'last', a name in its folder, such as "
        "'averaged' or 'model.ckpt-1000', or, with a '/', the path of a checkpoint.",
        **into,
    )
    flags.DEFINE_integer(
        'average_last', 0, 'Use the mean of so many of the last checkpoints.', **into
    )
    flags.DEFINE_integer(
        'average_best', 0, 'Or of those, of the kept ones, with the lowest NE.', **into
    )
    flags.DEFINE_string(
        'statistics_from',
        None,
        'Records whose training pictures give that mean its batch-norm statistics; default: those '
        'that --data_dir is a split of.',
        **into,
    )


def define_uncertainty(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Define the flags of scripts that can tell how far off points may be."""
    into = {'flag_values': flag_values}
    flags.DEFINE_string(
        'uncertainty',
        None,
        'Tell how far off each point may be, as was learned from pictures with known points: a '
        'file that eval_metrics.py --save_uncertainty wrote, a run with such an uncertainty.json, '
        'or a labelled split, such as RECORDS/val, to learn it from now.',
        **into,
    )
    flags.DEFINE_float(
        'uncertainty_level', 0.9, 'Share of the radii that are to hold the point.', **into
    )
    flags.DEFINE_float('reject_above', None, 'Leave out points with a larger radius, px.', **into)


def uncertainty(values, run_dirs, options):
    """Return the utility.predict.uncertainty.Calibration that the flags name, or None, and the
    options with which to predict for it.

    Raises:
        UserError: A flag means nothing, or the calibration is of another predictor.
    """
    check_level(values)
    if values.uncertainty is None:
        if values['reject_above'].present:
            raise UserError('--reject_above needs --uncertainty')
        return None, options
    if values.reject_above is not None and not values.reject_above > 0:
        raise UserError(f'--reject_above={values.reject_above}: must be positive')
    calibration = uncertain.load(values.uncertainty, run_dirs, options)
    return calibration, dataclasses.replace(options, map_features=calibration.needs_maps)


def check_level(values) -> None:
    """Refuse a level of radii that is none, or that nothing needs."""
    if not 0 < values.uncertainty_level < 1:
        raise UserError(f'--uncertainty_level={values.uncertainty_level}: must be between 0 and 1')
    if values['uncertainty_level'].present and values.uncertainty is None:
        raise UserError('--uncertainty_level needs --uncertainty')


def refuse() -> None:
    """Refuse each of the flags, where nothing is to be predicted.

    Raises:
        UserError: One was given.
    """
    for flag in flags.FLAGS.get_flags_for_module(__name__):
        if flag.present:
            raise UserError(f'--{flag.name} is for predicting with --model_dir only')


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(','))
    except ValueError as error:
        raise UserError(f'--{flag}={text}: must be numbers with commas') from error


def _records_of(values) -> str | None:
    """Return the records that --data_dir, or the first of several, is a split of, with its training
    pictures; None where there are none.
    """
    split_dir = values['data_dir'].value if 'data_dir' in values else None
    if not split_dir:
        return None
    split_dir = split_dir if isinstance(split_dir, str) else split_dir[0]
    root = os.path.dirname(os.path.abspath(split_dir) if '://' not in split_dir else split_dir)
    return root if is_folder(os.path.join(root, 'train')) else None


def options(values):
    """Return the utility.predict.views_to_points.PredictOptions that the flags stand for.

    Raises:
        UserError: A flag has a value that means nothing.
    """
    from utility.checkpoints.choice import CheckpointChoice
    from utility.predict.test_time_augmentation import ViewOptions
    from utility.predict.views_to_points import PredictOptions

    named = {'last': (), 'all': (1.0,)}
    outputs = values.outputs
    tells = 'use_predicted_category' in values
    return PredictOptions(
        flip_test=values.flip_test,
        passes=values.passes,
        refine=values.refine,
        batch_size=values.batch_size,
        views=ViewOptions(
            scales=_numbers('scales', values.scales),
            rotations=_numbers('rotations', values.rotations),
            num_crops=values.num_crops,
        ),
        fuse=values.fuse,
        outputs=named[outputs] if outputs in named else _numbers('outputs', outputs),
        smoothing=values.smoothing,
        checkpoint=CheckpointChoice(
            values.checkpoint,
            values.average_last,
            values.average_best,
            values.statistics_from or _records_of(values),
        ),
        compute=Compute(values.precision, values.xla),
        use_predicted_category=values['use_predicted_category'].value if tells else False,
    )
