"""Draws the points that a network finds, on pictures, on videos or on a split of the records.

    python demos/draw_keypoints.py --model_dir=RUN --category=blouse IMAGE... --output_dir=OUT
    python demos/draw_keypoints.py --model_dir=RUN,RUN2 --category=blouse FOLDER --output_dir=OUT
    python demos/draw_keypoints.py --model_dir=RUN --category=blouse - --output_dir=OUT <IMAGE
    python demos/draw_keypoints.py --model_dir=RUN --category=blouse VIDEO.mp4 --output_dir=OUT
    python demos/draw_keypoints.py --model_dir=RUN --data_dir=RECORDS/val --output_dir=OUT

The first three write each picture with its points as NAME_keypoints.jpg, the points as
keypoints.csv, in the format of submissions, and how sure the network is of each as scores.csv: the
peak of its heat map, about 1 at best. Of a video NAME_keypoints.mp4 is written, without sound, and
NAME_keypoints.csv with a row for each point of each frame; --smooth steadies the points. The last
writes one sheet, keypoints.jpg, with lines to the annotated points where the split has any. Several
runs with commas are one predictor. With --uncertainty circles on pictures say how far off points
may be, and uncertainty.csv does.

A network that tells the category needs no --category; with --use_predicted_category those of a
split are not looked at either. Of one that tells the presence of points, absent ones are not drawn,
occluded ones are rings; probabilities.csv has what it tells.

With --output_format=labelme, coco, ... the points of picture files are also written in that format,
to OUT/labelme. With --boxes=CSV each box gives a prediction, of its category if it has one.
"""

import dataclasses
import itertools
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import utility  # noqa: F401, before all that may not be installed

# isort: split
import numpy as np
from absl import flags, logging

from config import UserError
from preprocessing import files, tables
from preprocessing.conversion import decoding
from preprocessing.files import check_name, check_output
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.predict import flags as prediction_flags
from utility.predict import output_flags, uncertainty
from utility.predict.temporal_filter import OneEuroFilter
from utility.visualization import video

_COLUMNS = 8
_CELL_SIZE = 256  # px
STDIN, STDIN_NAME = '-', 'stdin'
TABLE_FILE, SCORES_FILE, PROBABILITIES_FILE = 'keypoints.csv', 'scores.csv', 'probabilities.csv'
UNCERTAINTY_FILE = 'uncertainty.csv'


def _define_flags() -> None:
    flags.DEFINE_list('model_dir', None, 'A run, or several with commas as one.')
    flags.DEFINE_string('category', None, 'What the pictures or videos show.')
    flags.DEFINE_string('data_dir', None, 'A split of the records, in place of picture files.')
    flags.DEFINE_string('output_dir', None, 'Where the drawn pictures go.')
    flags.DEFINE_integer('count', 40, 'Pictures of the split to draw.', lower_bound=1)
    flags.DEFINE_boolean(
        'outside', False, 'Keep points outside the picture, which are moved to its edge otherwise.'
    )
    output_flags.define()
    flags.DEFINE_boolean(
        'smooth', False, 'Of videos: smooth the points over time (one-euro filter).'
    )
    prediction_flags.define(flip_test=True)
    prediction_flags.define_uncertainty()
    prediction_flags.define_predicted_category()


def read_images(paths: list) -> dict:
    """Return path -> checked picture, of files and of those that lie in folders.

    What cannot be used in a folder is left out with a warning.

    Raises:
        UserError: A file that was named cannot be used, or a folder holds nothing that can.
    """
    found = {}
    for path in paths:
        if path == STDIN:
            found[STDIN_NAME] = _checked_image(path)
            continue
        if not os.path.isdir(path):
            found[path] = _checked_image(path)
            continue
        before = len(found)
        for inside in decoding.named_pictures(os.path.join(path, n) for n in os.listdir(path)):
            try:
                found[inside] = _checked_image(inside)
            except UserError as error:
                logging.warning('left out: %s', error)
        if len(found) == before:
            raise UserError(
                f'{path}: no picture in it ({", ".join(decoding.SUFFIXES)}) can be used'
            )
    return found


def _read_stdin() -> bytes:
    data = sys.stdin.buffer.read(decoding.MAX_FILE_SIZE + 1)  # it may have no end
    if len(data) > decoding.MAX_FILE_SIZE:
        raise UserError(f'more than {decoding.MAX_FILE_SIZE} bytes')
    return data


def _checked_image(path: str):
    from preprocessing.conversion import images

    check_name(path)
    try:
        data = _read_stdin() if path == STDIN else images.read_image(path)
        return images.check_image(data)
    except ValueError as error:
        name = 'standard input' if path == STDIN else path
        raise UserError(f'{name}: {error}') from error


def within(predictions):
    """Return the predictions with points outside a picture moved to its nearest pixel."""
    keypoints = nearest_inside(predictions.keypoints, predictions.image_sizes[:, None])
    return dataclasses.replace(predictions, keypoints=keypoints)


def nearest_inside(points, sizes):
    """Return points [.., K, 2] px, moved to the nearest pixel of a picture (height, width)."""
    last = np.asarray(sizes)[..., ::-1] - 1
    inside = np.clip(np.floor(points), 0, last) + 0.5
    is_outside = (np.floor(points) + 0.5 != inside).any(-1, keepdims=True)
    return np.where(is_outside, inside, points).astype(np.float32)


def scores_table(predictions, schema) -> list:
    """Return the scores: a row a picture, a column a point, empty without a point."""
    table = [['image_id', 'image_category', *schema.keypoints]]
    for row, names in enumerate(zip(predictions.image_ids, predictions.categories)):
        pairs = zip(predictions.scores[row], predictions.visibility[row])
        table.append([*names, *(f'{one:.4f}' if shown >= 0 else '' for one, shown in pairs)])
    return table


def garments_in(paths: list, category: str | None, boxes: dict | None) -> list:
    """Return what to predict, as (path, category, box or None).

    Args:
        category: What they show, where their boxes do not tell.
        boxes: image_id -> boxes, the image_id being a path or the name of a file; None: no boxes.
            Pictures without any are looked at as they are.

    Raises:
        UserError: A category is missing, no picture has a box, or a name is that of several.
    """
    found, given = [], boxes or {}
    names = [os.path.basename(path) for path in paths if path not in given]
    for path in paths:
        name = os.path.basename(path)
        if path not in given and name in given and names.count(name) > 1:
            raise UserError(f'--boxes: {names.count(name)} pictures are called {name}; name paths')
        own = given.get(path) or given.get(name) or [None]
        found += [(path, box and box.category or category, box and box.corners) for box in own]
    if boxes is not None and all(box is None for *_, box in found):
        raise UserError('--boxes: none of the pictures is in it')
    lacking = next((path for path, name, _ in found if name is None), None)
    if lacking is not None:
        raise UserError(f'--category is missing: what the pictures show, such as {lacking}')
    return found


def predict_files(checked: dict, values, options, schema):
    """Return the utility.predict.predictor.Predictions of pictures, and the path of each row.

    Their image_ids are paths, of one of several garments of a picture '1.jpg#2'.
    """
    from utility.predict import boxes as prediction_boxes
    from utility.predict import predictor

    boxes = prediction_boxes.read_boxes(values.boxes, schema) if values.boxes else None
    category = values.category
    if options.use_predicted_category:
        category = category or next(iter(schema.categories))  # of the records; nobody looks at it
    garments = garments_in(list(checked), category, boxes)
    for path, _, box in garments:
        if box is not None:
            prediction_boxes.check_inside(box, checked[path].size, f'{values.boxes}, {path}')
    paths, categories, corners = zip(*garments)
    ids = [
        path if paths.count(path) == 1 else f'{path}#{paths[: row + 1].count(path)}'
        for row, path in enumerate(paths)
    ]
    for name in set(categories):
        schema.indices(name)  # before anything is predicted: an unknown category raises
    looked_at = prediction_boxes.RecordBoxes.one_each(corners, are_given=True) if boxes else None
    pictures = [checked[path] for path in paths]
    predictions = predictor.predict_images(
        values.model_dir, ids, pictures, categories, options, looked_at
    )
    if options.use_predicted_category:
        told = predictions.predicted_categories(schema)
        predictions = dataclasses.replace(predictions, categories=told)
    return predictions if values.outside else within(predictions), paths


def write_files(predictions, paths, values, schema, calibration) -> list:
    """Write points and scores as CSV, and in another --output_format; the paths written.

    In the latter pictures are named as below the directory that they have in common.
    """
    from utility.predict import probabilities

    table, scores = (os.path.join(values.output_dir, name) for name in (TABLE_FILE, SCORES_FILE))
    tables.write_table(table, predictions.table(), schema)
    files.write_bytes(scores, files.csv_bytes(scores_table(predictions, schema)))
    written = [table, scores]
    if predictions.category_probabilities is not None or predictions.presence is not None:
        written.append(os.path.join(values.output_dir, PROBABILITIES_FILE))
        files.write_bytes(written[-1], probabilities.table(predictions, schema))
    if calibration:
        written.append(os.path.join(values.output_dir, UNCERTAINTY_FILE))
        told = values.uncertainty_level, values.reject_above
        files.write_bytes(written[-1], uncertainty.table_of(calibration, predictions, *told))
    if values.output_format == output_flags.CSV:
        return written
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names = [os.path.relpath(os.path.abspath(path), root) for path in paths]
    named = dataclasses.replace(predictions, image_ids=names)
    output = os.path.join(values.output_dir, values.output_format)
    return [*written, *output_flags.write_predictions(values, output, named, schema)]


def outputs_of(paths: list, output_dir: str) -> list:
    """Return OUT/NAME_keypoints of each file, without a suffix; numbered where names are shared."""
    stems, names = [pathlib.PurePath(path).stem for path in paths], []
    for row, stem in enumerate(stems):
        numbered = (f'{stem}_{number}' for number in itertools.count(row))
        is_alone = stems.count(stem) == 1
        names.append(stem if is_alone else next(n for n in numbered if n not in stems + names))
    return [os.path.join(output_dir, f'{name}_keypoints') for name in names]


def draw_files(paths: list, values, options) -> None:
    """Draw picture files one by one and write their points and scores."""
    import tensorflow as tf

    from utility.predict import fusion
    from utility.visualization import draw

    output_dir, schema = values.output_dir, runs.schema_of(values.model_dir[0])
    output_flags.check_ids(values, schema)
    if values.category:
        schema.indices(values.category)  # before pictures are read: an unknown category raises
    elif not values.boxes:
        if not fusion.tells_category(values.model_dir):
            raise UserError('--category is missing: what the pictures show')
        options = dataclasses.replace(options, use_predicted_category=True)
    calibration, options = prediction_flags.uncertainty(values, values.model_dir, options)
    checked = read_images(paths)
    files.keep(checked)
    predictions, path_of_row = predict_files(checked, values, options, schema)
    visibility, radii = circles(calibration, predictions, values)
    for path, output in zip(checked, outputs_of(list(checked), output_dir)):
        drawn = tf.io.decode_jpeg(checked[path].jpeg, channels=3).numpy()
        for garment in (n for n, of_row in enumerate(path_of_row) if of_row == path):
            points = predictions.keypoints[garment], visibility[garment]
            drawn = draw.draw_keypoints(drawn, *points, schema, radii=radii[garment])
        draw.write_image(f'{output}.jpg', drawn)
        print(f'{path} -> {output}.jpg')
    print('\n'.join(write_files(predictions, path_of_row, values, schema, calibration)))


def circles(calibration, predictions, values):
    """Return the visibility [N, K] by which points are drawn, -1 where --reject_above leaves one
    out, and the radii of circles about them [N, K], px; NaN without a calibration.
    """
    visibility = predictions.likely_visibility()
    if calibration is None:
        return visibility, np.full(visibility.shape, np.nan)
    radii = calibration.radii(predictions, values.uncertainty_level)
    uncertainty.warn_of_shift(calibration, predictions)
    if values.reject_above is not None:
        visibility = np.where(radii > values.reject_above, -1, visibility)
    return visibility, radii


def draw_videos(videos: list, values, options) -> None:
    """Draw videos frame by frame, and write the points of all frames of each."""
    from utility.predict import api

    paths = [source.path for source in videos]
    files.keep(paths)
    with api.of_runs(values.model_dir, options) as model:
        for source, output in zip(videos, outputs_of(paths, values.output_dir)):
            draw_video(source, output, model, values)


def draw_video(source, output: str, model, values) -> None:
    """Write a video with its points, and their table, as OUTPUT.mp4 and OUTPUT.csv."""
    from utility.visualization import draw

    rows = [('frame', 'seconds', 'category', 'keypoint', 'x', 'y', 'score')]

    def drawn():
        category = smooth = None
        for number, result in enumerate(model.predict_each(source.frames(), values.category)):
            if result.category != category:
                category, smooth = result.category, OneEuroFilter(source.rate, max(source.size))
            points = smooth(result.points) if values.smooth else result.points
            if not values.outside:
                points = nearest_inside(points, result.image_size)
            for name, (x, y), score in zip(result.names, points, result.scores):
                cells = (number, f'{number / source.rate:.4f}', category, name)
                rows.append((*cells, f'{x:.2f}', f'{y:.2f}', f'{score:.4f}'))
            yield draw.draw_keypoints(result.image, points, result.visibility, result.schema)

    video.write_video(f'{output}{video.OUTPUT_SUFFIX}', drawn(), source.rate)
    files.write_bytes(f'{output}.csv', files.csv_bytes(rows))
    print(f'{source.path} -> {output}{video.OUTPUT_SUFFIX}\n{output}.csv')


def draw_split(values, options) -> None:
    """Draw pictures of a split on one sheet, as many of each category."""
    from preprocessing import records
    from preprocessing.conversion import images, integrity
    from utility.predict import predictor
    from utility.predict.boxes import RecordBoxes
    from utility.visualization import draw

    integrity.check_split(values.data_dir, 'all')
    schema = runs.schema_of(values.model_dir[0])
    calibration, options = prediction_flags.uncertainty(values, values.model_dir, options)
    examples = records.first_examples(values.data_dir, schema, values.count)
    predictions = predictor.predict_images(
        values.model_dir,
        [example['image_id'].decode() for example in examples],
        [records.picture(example) for example in examples],
        [example['category'].decode() for example in examples],
        options,
        RecordBoxes.one_each([example['box'] for example in examples], are_given=False),
    )
    if not values.outside:
        predictions = within(predictions)
    visibility, radii = circles(calibration, predictions, values)
    drawn = [
        draw.draw_keypoints(
            images.pixels(records.picture(example)),
            predictions.keypoints[row],
            visibility[row],
            schema,
            annotated=(example['keypoints'], example['visibility']),
            radii=radii[row],
        )
        for row, example in enumerate(examples)
    ]
    output = os.path.join(values.output_dir, 'keypoints.jpg')
    draw.write_image(output, draw.contact_sheet(drawn, _COLUMNS, _CELL_SIZE))
    print(output)


def main(positional: list) -> None:
    values = flags.FLAGS
    if not values.model_dir or not values.output_dir:
        raise UserError('--model_dir and --output_dir are needed')
    if bool(positional) == bool(values.data_dir):
        raise UserError('give either pictures or videos, or a folder of pictures, or --data_dir')
    output_flags.check(values, os.path.join(values.output_dir, values.output_format))
    if values.data_dir and (values.boxes or values.output_format != output_flags.CSV):
        raise UserError('--boxes and --output_format are for picture files; see eval_submission.py')
    check_output(os.path.join(values.output_dir, TABLE_FILE))
    options = prediction_flags.options(values)
    if not positional:
        draw_split(values, options)
        return
    pictures = [path for path in positional if not path.lower().endswith(video.SUFFIXES)]
    videos = [video.open_video(path) for path in positional if path not in pictures]
    if values.smooth and not videos:
        raise UserError('--smooth is for videos; there is none')
    is_csv = values.output_format == output_flags.CSV
    if videos and (values.uncertainty or values.boxes or not is_csv):
        raise UserError('--uncertainty, --boxes and --output_format are for pictures alone')
    if pictures:
        draw_files(pictures, values, options)
    if videos:
        draw_videos(videos, values, options)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
