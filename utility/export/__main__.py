"""Exports a trained network as a folder that works without this project, and checks such folders.

python -m utility.export RUN --format=onnx --output=DIR [--category=blouse] [--flip_test]
python -m utility.export RUN --format=tflite --output=DIR --precision=int8 --calibrate=RECORDS/train
python -m utility.export [RUN] --check=DIR --data_dir=RECORDS/val

The file takes images of any size, uint8 [H, W, 3] RGB, and answers points in their pixels. It is
run and compared with the network before it gets its name.
"""

from __future__ import annotations

from absl import flags

from config import UserError
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.export import PRECISIONS
from utility.predict import flags as prediction_flags
from utility.predict.exported import RUNNERS


def _define_flags() -> None:
    flags.DEFINE_enum('format', None, list(RUNNERS), 'What is written.')
    flags.DEFINE_string('output', None, 'The folder to write; an earlier export there is replaced.')
    flags.DEFINE_string('category', None, 'Of a run with a network for each category: which one.')
    flags.DEFINE_boolean('flip_test', False, 'Average with the heat maps of the mirrored image.')
    flags.DEFINE_string('refine', None, 'How heat maps become points; default: as trained.')
    flags.DEFINE_string('checkpoint', 'best', "The weights, as of eval_metrics.py's --checkpoint.")
    flags.DEFINE_enum(
        'precision',
        'float32',
        PRECISIONS,
        'Of the weights. float16: stored so, computed in float32. int8: the network is computed in '
        'integers, all around it in float32.',
    )
    flags.DEFINE_string('calibrate', None, 'Of int8: a split of the records that tells the ranges.')
    flags.DEFINE_integer('calibration_images', 64, 'How many images of it.', lower_bound=1)
    flags.DEFINE_string(
        'uncertainty',
        None,
        'A labelled split that the run was not trained on: model.json then tells how far off each '
        'point may be, by its score and the extent of the garment.',
    )
    flags.DEFINE_float(
        'uncertainty_level', 0.9, 'Of it: share of the radii that are to hold the point.'
    )
    flags.DEFINE_string('check', None, 'An exported folder, to be run and compared.')
    flags.DEFINE_string('data_dir', None, 'Of --check: a labelled split of the records.')


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if values.check:
        if len(positional) > 1:
            raise UserError(f'--check compares with one run, not {len(positional)}')
        if not values.data_dir:
            raise UserError('--check needs --data_dir, a labelled split of the records')
        from utility.export import check

        print(check.check(values.check, values.data_dir, *positional))
        return
    if len(positional) != 1 or not values.format or not values.output:
        raise UserError('give one run, --format and --output; or --check and --data_dir')
    prediction_flags.check_level(values)
    if (values.precision == 'int8') != bool(values.calibrate):
        raise UserError('--precision=int8 and --calibrate=RECORDS/train go together')
    _export(positional[0], values)


def _export(run_dir: str, values) -> None:
    """Export the network that the flags choose."""
    from utility.checkpoints.choice import CheckpointChoice
    from utility.export import calibration, folder
    from utility.export.formats import Settings
    from utility.export.graph import ExportGraph
    from utility.predict import fusion, uncertainty
    from utility.predict.views_to_points import PredictOptions

    options = PredictOptions(
        flip_test=values.flip_test,
        refine=values.refine,
        checkpoint=CheckpointChoice(values.checkpoint),
    )
    graph = ExportGraph(
        fusion.load_network(_network_of(run_dir, values.category), options), options
    )
    images = []
    if values.calibrate:
        images = calibration.images_of(values.calibrate, graph.schema, values.calibration_images)
    settings = Settings(values.precision, calibration.crops_of(images, graph))
    more = {}
    if values.uncertainty:
        errors = uncertainty.of_split(
            values.uncertainty, [run_dir], options, uncertainty.POINT_FEATURES
        )
        more = errors.of_export(graph.schema, values.uncertainty_level)
    comparison = folder.export(graph, values.format, values.output, settings, images, more)
    print(f'{values.output}: {values.format}, {values.precision}; against TensorFlow: {comparison}')


def _network_of(run_dir: str, category: str | None) -> str:
    """Return the folder of the network of a run that is meant.

    Raises:
        UserError: There are several, none of the category, or no such category.
    """
    found = runs.networks(run_dir)
    if category is None:
        if len(found) > 1:
            raise UserError(f'{run_dir!r} has {len(found)} networks; --category={"|".join(found)}')
        return next(iter(found.values()))
    if category == 'all' and 'all' in found:
        return found['all']
    runs.schema_of(run_dir).indices(category)  # an unknown one is not that of the network for all
    (folder,) = runs.networks_for(run_dir, [category])
    return folder


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
