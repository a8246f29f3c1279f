"""The first pass of a conversion: which pictures can be used, and a hash of each."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from absl import logging

from config import UserError
from preprocessing.conversion import images
from preprocessing.conversion.parallel import Workers
from preprocessing.datasets import Annotation

Track = Callable[[Iterable, int, str], Iterable]

_PICTURES_PER_TASK = 32  # enough to make the cost of a task negligible
_DIGEST_SIZE = 16  # bytes


class Entry(NamedTuple):
    """A record.

    Attributes:
        digest: A hash of the bytes of the original picture.
        source: Name of the split it comes from.
        annotation: What is known of the picture.
        size: (height, width), px.
        changes: As in images.DecodedImage.
    """

    digest: bytes
    source: str
    annotation: Annotation
    size: tuple[int, int]
    changes: tuple[str, ...]


class Rejected(NamedTuple):
    """A picture that could not be used: the split it comes from, its id, and why."""

    source: str
    image_id: str
    reason: str


class _Checked(NamedTuple):
    """What is kept of a picture after the check; `reason` is why it cannot be used, or None;
    `damage` is as in images.DecodedImage."""

    digest: bytes
    size: tuple[int, int]
    changes: tuple[str, ...]
    reason: str | None
    damage: str = ''


def digest(data: bytes) -> bytes:
    """Return the hash by which pictures are told apart, split and ordered."""
    return hashlib.blake2b(data, digest_size=_DIGEST_SIZE).digest()


def screen(
    annotations: Sequence[tuple[str, Annotation]],
    workers: Workers,
    track: Track,
    skip_bad_images: bool,
    max_side: int | None = None,
    keeps_damaged: bool = False,
) -> tuple[list[Entry], list[Rejected]]:
    """Check every picture, and part those that can be used from the rest.

    Args:
        annotations: Pairs of a split's name and an annotation of it.
        track: (iterable, total, label) -> the same items; shows the progress.
        skip_bad_images: Whether a bad picture is listed; if not, it is an error.
        max_side, keeps_damaged: As in images.check_image.

    Raises:
        UserError: A picture cannot be used, and skip_bad_images is false.
    """
    entries: list[Entry] = []
    rejected: list[Rejected] = []
    paths = [annotation.image_path for _, annotation in annotations]
    chunks = (
        paths[start : start + _PICTURES_PER_TASK]
        for start in range(0, len(paths), _PICTURES_PER_TASK)
    )
    check_all = functools.partial(_check_all, max_side, keeps_damaged)
    results = (result for chunk in workers.map(check_all, chunks) for result in chunk)
    # The results come first in the zip, so that they are exhausted and the progress is complete.
    for result, (source, annotation) in zip(
        track(results, len(paths), 'checking pictures'), annotations
    ):
        if result.damage:
            logging.warning('%s, %s is kept: %s', source, annotation.image_id, result.damage)
        reason = result.reason or annotation.fault or _fault_of_size(annotation, result.size)
        if reason is None:
            entries.append(Entry(result.digest, source, annotation, result.size, result.changes))
        elif skip_bad_images:
            rejected.append(Rejected(source, annotation.image_id, reason))
        else:
            raise UserError(f'{source}, {annotation.image_id}: {reason}')
    return entries, rejected


def _fault_of_size(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """Return why points would lie at wrong places: their picture has another size; else None."""
    if annotation.image_size in (None, size):
        return None
    (height, width), (there_height, there_width) = annotation.image_size, size
    says = f'the annotation is of a picture of {width}x{height} px'
    return f'{says}, this one has {there_width}x{there_height}'


def _check_all(max_side: int | None, keeps_damaged: bool, paths: Sequence[str]) -> list[_Checked]:
    return [_check(path, max_side, keeps_damaged) for path in paths]


def _check(path: str, max_side: int | None, keeps_damaged: bool) -> _Checked:
    try:
        data = images.read_image(path)
        picture = images.check_image(data, max_side, keeps_damaged)
    except images.BadImageError as error:
        return _Checked(b'', (0, 0), (), str(error))
    return _Checked(digest(data), picture.size, picture.changes, None, picture.damage)
