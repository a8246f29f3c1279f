"""The page on which a person looks through what the label audit suspects.

One file with the pictures in it, without scripts: radio buttons choose the category and the kind,
and style sheets hide the rest.
"""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing import faults, records
from preprocessing.conversion import images
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.labels.suspicions import KINDS, Suspicion
from utility.visualization import html_page
from utility.visualization.draw import draw_error


class Audit(NamedTuple):
    """What a page shows.

    Attributes:
        table: The annotations.
        schema: Of these.
        shown: The suspicions for the page, the worst first.
        num_found: How many there are in all.
        lines: Of each one shown, its lines in the file of corrections; empty if it has none.
        corrections: The path of that file.
    """

    table: KeypointTable
    schema: KeypointSchema
    shown: Sequence[Suspicion]
    num_found: int
    lines: Sequence[Sequence[int]]
    corrections: str


def write_page(path: str | os.PathLike, audit: Audit, files: Sequence[str]) -> None:
    """Write the page: it is complete or not there.

    Drawn pictures wait on disk until it is their turn, so that memory stays flat.

    Args:
        path: Local, or anything tf.io.gfile opens.
        files: The records that hold the pictures.
    """
    with tempfile.TemporaryDirectory() as directory:
        for number, picture in _images(audit, files):
            _place(directory, number).write_text(json.dumps(picture))
        names = {
            'category': [str(audit.table.categories[one.row]) for one in audit.shown],
            'kind': [one.kind for one in audit.shown],
        }
        values = {
            'title': 'Label audit',
            'found': audit.num_found,
            'shown': len(audit.shown),
            'pictures': len(audit.table.image_ids),
            'corrections': audit.corrections,
            'kinds': KINDS,
            'filters': {
                group: dict(Counter(found).most_common()) for group, found in names.items()
            },
            'cards': _cards(audit, directory),
        }
        html_page.write_page(path, html_page.template(__file__, 'audit.html'), values)


def _place(directory: str, number: int) -> pathlib.Path:
    return pathlib.Path(directory, f'{number}.json')


def _cards(audit: Audit, directory: str) -> Iterator[Mapping[str, Any]]:
    for number, (one, lines) in enumerate(zip(audit.shown, audit.lines)):
        place = _place(directory, number)
        word = 'line' if len(lines) == 1 else 'lines'
        yield {
            'picture': html_page.DecodedImage(*json.loads(place.read_text()))
            if place.exists()
            else None,
            'kind': one.kind,
            'category': audit.table.categories[one.row],
            'points': _points(one, audit.schema),
            'score': one.score,
            'cost': one.cost,
            'lines': f'{word} {", ".join(map(str, lines))}' if lines else 'no line',
            'image_id': audit.table.image_ids[one.row],
        }


def _points(one: Suspicion, schema: KeypointSchema) -> str:
    """Return the points concerned, in words."""
    return ', '.join(schema.keypoints[k].replace('_', ' ') for k in one.keypoints)


def _images(audit: Audit, files: Sequence[str]) -> Iterator[tuple[int, html_page.DecodedImage]]:
    """Yield the pictures of suspicions, with their numbers; in the order of the records."""
    wanted: dict[bytes, list[int]] = {}
    for number, one in enumerate(audit.shown):
        wanted.setdefault(audit.table.image_ids[one.row].encode(), []).append(number)
    for example in faults.named(_examples(files, audit.schema, wanted), files, audit.schema):
        image = None
        for number in wanted[example['image_id']]:
            one = audit.shown[number]
            # An image_id may be in several splits of the data set.
            if not np.array_equal(example['keypoints'], audit.table.keypoints[one.row]):
                continue
            if image is None:
                image = images.pixels(records.picture(example))
            yield number, html_page.picture(_draw(image, audit, one), _alternative(audit, one))


def _examples(
    files: Sequence[str], schema: KeypointSchema, image_ids: Iterable[bytes]
) -> Iterator[Mapping[str, Any]]:
    """Return those records that are of these pictures."""
    if not image_ids:
        return iter(())
    ids = tf.constant(list(image_ids))
    dataset = records.decoded(tf.data.TFRecordDataset(files), schema)
    dataset = dataset.filter(lambda example: tf.reduce_any(example['image_id'] == ids))
    return dataset.as_numpy_iterator()


def _draw(image: np.ndarray, audit: Audit, one: Suspicion) -> np.ndarray:
    points = audit.table.keypoints[one.row].astype(np.float64)
    visibility = audit.table.visibility[one.row]
    points[visibility < 0] = np.nan
    suggested = points.copy()
    own = list(one.keypoints)
    known = (one.visibility >= 0) & np.isfinite(one.moved_to).all(-1)
    suggested[own] = np.where(known[:, np.newaxis], one.moved_to, suggested[own])
    chosen = np.zeros(len(points), bool)
    chosen[own] = True
    answers = np.where(np.isnan(points), 0, points), visibility
    return draw_error(image, suggested, answers, chosen, audit.schema)


def _alternative(audit: Audit, one: Suspicion) -> str:
    """Return what the picture shows, for those who do not see it."""
    moves = []
    for k, to, visibility in zip(one.keypoints, one.moved_to, one.visibility):
        x, y = audit.table.keypoints[one.row, k]
        there = audit.table.visibility[one.row, k] >= 0
        before = f'{x:.0f}, {y:.0f}' if there else 'nowhere'
        after = 'nowhere' if visibility < 0 else '{:.0f}, {:.0f}'.format(*to)
        moved = f' to {after}' if visibility < 0 or np.isfinite(to).all() else ''
        moves.append(f'{audit.schema.keypoints[k]} from {before}{moved}')
    return f'{audit.table.categories[one.row]}: {KINDS[one.kind]}: {"; ".join(moves)}'
