"""Draws the points that a network finds, on picture files or on a split of the records.

    python demos/draw_keypoints.py --model_dir=RUN --category=blouse IMAGE... --output_dir=OUT
    python demos/draw_keypoints.py --model_dir=RUN --data_dir=RECORDS/val --output_dir=OUT

The first writes each picture with its points as NAME_keypoints.jpg, and the points as
keypoints.csv; the second writes one sheet, keypoints.jpg, with lines to the annotated points where
the split has any.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import flags  # noqa: E402

from config import UserError
from utility.command_line import scripts
from utility.predict import flags as prediction_flags  # noqa: E402

_COLUMNS = 8
_CELL_SIZE = 256  # px


def _define_flags() -> None:
    flags.DEFINE_string('model_dir', None, 'A run.')
    flags.DEFINE_string('category', None, 'What the picture files show.')
    flags.DEFINE_string('data_dir', None, 'A split of the records, in place of picture files.')
    flags.DEFINE_string('output_dir', None, 'Where the drawn pictures go.')
    flags.DEFINE_integer('count', 40, 'Pictures of the split to draw.', lower_bound=1)
    prediction_flags.define(flip_test=True)


def draw_files(paths: list, model_dir: str, category: str, output_dir: str, options) -> None:
    """Draws picture files one by one and writes their points."""
    import tensorflow as tf

    from preprocessing import tables
    from utility.checkpoints import runs
    from utility.predict import predictor
    from utility.visualization import draw

    schema = runs.schema_of(model_dir)
    schema.indices(category)  # before anything is drawn: an unknown category raises
    checked = [_checked_image(path) for path in paths]
    predictions = predictor.predict_images(
        [model_dir], paths, checked, [category] * len(paths), options
    )
    stems = [pathlib.PurePath(path).stem for path in paths]
    for row, (path, stem) in enumerate(zip(paths, stems)):
        drawn = draw.draw_keypoints(
            tf.io.decode_jpeg(checked[row].jpeg, channels=3).numpy(),
            predictions.keypoints[row],
            predictions.visibility[row],
            schema,
        )
        name = stem if stems.count(stem) == 1 else f'{stem}_{row}'
        output = os.path.join(output_dir, f'{name}_keypoints.jpg')
        draw.write_image(output, drawn)
        print(f'{path} -> {output}')
    table = os.path.join(output_dir, 'keypoints.csv')
    tables.write_table(table, predictions.table(), schema)
    print(table)


def _checked_image(path: str):
    from preprocessing.conversion import images

    try:
        return images.check_image(images.read_image(path))
    except ValueError as error:
        raise UserError(f'{path}: {error}') from error


def draw_split(split_dir: str, model_dir: str, count: int, output_dir: str, options) -> None:
    """Draws pictures of a split on one sheet, as many of each category."""

    from preprocessing import records
    from preprocessing.conversion import images
    from utility.checkpoints import runs
    from utility.predict import predictor
    from utility.visualization import draw

    schema = runs.schema_of(model_dir)
    examples = records.first_examples(split_dir, schema, count)
    predictions = predictor.predict_images(
        [model_dir],
        [example['image_id'].decode() for example in examples],
        [records.picture(example) for example in examples],
        [example['category'].decode() for example in examples],
        options,
        [example['box'] for example in examples],
    )
    drawn = [
        draw.draw_keypoints(
            images.pixels(records.picture(example)),
            predictions.keypoints[row],
            predictions.visibility[row],
            schema,
            annotated=(example['keypoints'], example['visibility']),
        )
        for row, example in enumerate(examples)
    ]
    output = os.path.join(output_dir, 'keypoints.jpg')
    draw.write_image(output, draw.contact_sheet(drawn, _COLUMNS, _CELL_SIZE))
    print(output)


def main(positional: list) -> None:
    values = flags.FLAGS
    if not values.model_dir or not values.output_dir:
        raise UserError('--model_dir and --output_dir are needed')
    if bool(positional) == bool(values.data_dir):
        raise UserError('give either picture files or --data_dir')
    if positional and not values.category:
        raise UserError('--category is missing: what the pictures show')

    options = prediction_flags.options(values)
    if positional:
        draw_files(positional, values.model_dir, values.category, values.output_dir, options)
    else:
        draw_split(values.data_dir, values.model_dir, values.count, values.output_dir, options)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
