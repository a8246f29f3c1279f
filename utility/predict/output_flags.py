"""The flags of scripts that predict and write: boxes to look at, and the format of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from absl import flags

from config import UserError
from preprocessing.files import check_new_folder
from preprocessing.writers import FOLDER_FORMATS, WRITERS, WriteOptions, garments_of, write
from preprocessing.writers.coco import read_ids

if TYPE_CHECKING:
    from preprocessing.schema import KeypointSchema
    from utility.predict.boxes import Box
    from utility.predict.predictor import Predictions

CSV = 'csv'
_COCO = ('coco', 'coco_results')


def define() -> None:
    """Define the flags."""
    flags.DEFINE_enum(
        'output_format',
        CSV,
        [CSV, *WRITERS.names()],
        "'csv' is the format of submissions; the others are told in docs/data.md.",
    )
    flags.DEFINE_string(
        'coco_ids',
        None,
        'A COCO annotation file whose numbers of pictures and categories coco and coco_results '
        'use; by default those in the names of the pictures, or else 1, 2, ...',
    )
    flags.DEFINE_string(
        'boxes',
        None,
        'A CSV of boxes to crop to, one prediction each: image_id, x_min, y_min, x_max, y_max in '
        'px and, if need be, category.',
    )


def check(values, output_dir: str | None) -> None:
    """Refuse flags that do not go together, and a directory that cannot be written.

    Args:
        output_dir: Where the files of another format than CSV will go; None: not known.

    Raises:
        UserError: They do not, or there is something in the directory.
    """
    if output_dir and values.output_format in FOLDER_FORMATS:
        check_new_folder(output_dir)  # and not when all is predicted
    if values.coco_ids and values.output_format not in _COCO:
        raise UserError(f'--coco_ids is for --output_format={" or ".join(_COCO)} only')


def check_ids(values, schema: KeypointSchema) -> None:
    """Read --coco_ids, if it is given, before all is predicted that it is for.

    Raises:
        UserError: It is no such file.
    """
    if values.coco_ids:
        read_ids(values.coco_ids, schema)


def given_boxes(values, schema: KeypointSchema) -> Mapping[str, Sequence[Box]] | None:
    """Return the boxes of --boxes by image_id; none of them where a format tells boxes as well;
    None where no box is asked for.
    """
    if values.boxes:
        from utility.predict.boxes import read_boxes

        return read_boxes(values.boxes, schema)
    return {} if values.output_format != CSV else None


def write_predictions(
    values,
    output_dir: str,
    predictions: Predictions,
    schema: KeypointSchema,
    point_offset: float = 0.0,
) -> list[str]:
    """Write predictions in --output_format, which is not CSV.

    Args:
        output_dir: A new or empty directory; one file alone may replace an earlier one.
        predictions: At least one.
        schema: Of the whole data set.
        point_offset: As of WriteOptions.

    Returns:
        The paths of the files.

    Raises:
        UserError: They cannot be written.
    """
    # Of results every point counts, however likely it is that there is none.
    is_scored = values.output_format == 'coco_results'
    garments = garments_of(
        predictions.image_ids,
        predictions.categories,
        predictions.keypoints,
        predictions.visibility if is_scored else predictions.likely_visibility(),
        predictions.image_sizes,
        predictions.scores,
        predictions.boxes,
    )
    options = WriteOptions(point_offset, values.coco_ids)
    return write(values.output_format, output_dir, garments, schema, options)
