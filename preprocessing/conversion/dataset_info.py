"""What dataset.json says of converted data."""

from __future__ import annotations

import collections
import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from preprocessing import records
from preprocessing.conversion.screening import Entry, Rejected
from preprocessing.datasets import Split
from preprocessing.files import read_bytes
from preprocessing.schema import KeypointSchema

_FINGERPRINT_LENGTH = 16  # of its digits
POINT_STATES = ('visible', 'occluded', 'absent', 'outside_picture')
# Category -> its records.
Part = Mapping[str, Sequence[Entry]]


def describe_part(part: Part, labelled: bool, schema: KeypointSchema) -> dict[str, Any]:
    """Return the counts of an output split, of its points if labelled, and fingerprints."""
    description: dict[str, Any] = {
        'labelled': labelled,
        'records': {category: len(entries) for category, entries in part.items()},
        records.FINGERPRINTS: {c: _fingerprint(entries) for c, entries in part.items() if entries},
    }
    boxes = sum(e.annotation.box is not None for entries in part.values() for e in entries)
    if boxes:
        description['boxes'] = boxes
    if labelled:
        of_category = {
            category: _count_points(entries, list(schema.indices(category)))
            for category, entries in part.items()
            if entries
        }
        counts: collections.Counter = collections.Counter(dict.fromkeys(POINT_STATES, 0))
        for one in of_category.values():
            counts.update(one)
        description['points'] = dict(counts)
        description[records.CATEGORY_POINTS] = of_category
    return description


def _fingerprint(entries: Sequence[Entry]) -> str:
    """Return a hash of the pictures of records, with their ids and annotations, in their order."""
    found = hashlib.sha256()
    for entry in entries:
        annotation = entry.annotation
        found.update(f'{entry.digest.hex()} {annotation.image_id}\n'.encode())
        found.update(np.asarray(annotation.visibility, np.int32).tobytes())
        # What stands where a point is absent is not written.
        seen = np.asarray(annotation.visibility) >= 0
        found.update(np.asarray(annotation.keypoints, np.float32)[seen].tobytes())
    return found.hexdigest()[:_FINGERPRINT_LENGTH]


def _count_points(entries: Sequence[Entry], indices: list[int]) -> dict[str, int]:
    """Return the number of points of one category in each of POINT_STATES."""
    visibility = np.stack([entry.annotation.visibility[indices] for entry in entries])
    points = np.stack([entry.annotation.keypoints[indices] for entry in entries])
    sizes = np.array([entry.size for entry in entries])[:, np.newaxis]
    counts = point_states(points, visibility, sizes).sum((1, 2))
    return dict(zip(POINT_STATES, counts.tolist()))


def point_states(points: np.ndarray, visibility: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return in which of POINT_STATES points are; one outside is visible or occluded too.

    Args:
        points: float [.., K, 2], px.
        visibility: int [.., K].
        sizes: [.., 2], (height, width), px.

    Returns:
        bool [4, .., K].
    """
    outside = ((points < 0) | (points > sizes[..., ::-1])).any(axis=-1) & (visibility >= 0)
    return np.stack([visibility == 1, visibility == 0, visibility < 0, outside])


def describe_sources(
    splits: Iterable[Split],
    entries: Iterable[Entry],
    rejected: Iterable[Rejected],
    data_dir: str,
) -> dict[str, Any]:
    """Return the files of each split of the data, and how many pictures were used or not."""
    num_used = collections.Counter(entry.source for entry in entries)
    num_rejected = collections.Counter(one.source for one in rejected)
    return {
        split.name: {
            'labelled': split.labelled,
            # Relative paths: the same data in another place gives the same bytes.
            'files': {
                posixpath.relpath(path, data_dir): hashlib.sha256(read_bytes(path)).hexdigest()
                for path in split.files
            },
            'used': num_used[split.name],
            'rejected': num_rejected[split.name],
        }
        for split in splits
    }


def describe_duplicates(entries: Iterable[Entry], labelled: Sequence[str]) -> dict[str, int]:
    """Return pictures whose files are equal byte by byte.

    Args:
        entries: All records.
        labelled: Names of the labelled source splits.
    """
    count: collections.Counter = collections.Counter()
    in_test = set()
    # Several garments of one picture are several records of one file.
    entries = list({(e.source, e.annotation.image_path): e for e in entries}.values())
    for entry in entries:
        count[entry.digest] += 1
        if entry.source not in labelled:
            in_test.add(entry.digest)
    return {
        'groups': sum(number > 1 for number in count.values()),
        'pictures': sum(number for number in count.values() if number > 1),
        'labelled_pictures_also_in_a_test_split': sum(
            entry.digest in in_test for entry in entries if entry.source in labelled
        ),
    }


def describe_changes(entries: Iterable[Entry]) -> dict[str, int]:
    """Return how many pictures were encoded anew, by what was wrong with them."""
    changes = collections.Counter(change for entry in entries for change in entry.changes)
    return dict(sorted(changes.items()))
