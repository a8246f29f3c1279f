"""Records of a data set with those of its corrections: the newer annotations of a picture count.

A picture is known by its name; all its garments are taken from the newer records if it is there.
It stays in the split that the older records have it in, so that no picture for validation gets into
a training.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing import faults, files, records, schema_files
from preprocessing.conversion import dataset_info, integrity
from preprocessing.conversion.screening import Entry, digest
from preprocessing.datasets import Annotation
from preprocessing.schema import KeypointSchema
from preprocessing.writers.registry import picture_of

CONFLICTS_FILE = 'conflicts.csv'
_COLUMNS = ('image_id', 'split', 'what', 'old', 'new', 'distance_px')
_SAME = 0.01  # px: two points that are no farther apart are one


class Report(NamedTuple):
    """What was merged: numbers of garments.

    Attributes:
        kept: Of the older records alone.
        replaced: Of the older records, whose pictures are in the newer ones.
        added: Of the newer records, in pictures that the older ones do not have.
        updated: Of the newer records, in the other pictures.
        conflicts: Rows of the list of conflicts.
    """

    kept: int
    replaced: int
    added: int
    updated: int
    conflicts: int


class _Source(NamedTuple):
    """A directory of records: its path, its info, and split -> category -> its files."""

    path: str
    info: Mapping[str, Any]
    shards: Mapping[str, Mapping[str, list[str]]]


def merge(old_dir: str, new_dir: str, output_dir: str) -> Report:
    """Merge two directories of records into a new one.

    Beside the records it holds CONFLICTS_FILE: each point, number of garments or category that the
    newer records have otherwise than the older ones.

    Args:
        old_dir: RECORDS.
        new_dir: RECORDS of corrected or further pictures, with the same keypoints.
        output_dir: A directory that is new or empty; it is complete or as it was.

    Raises:
        UserError: A directory does not hold records, their keypoints differ, the newer ones have
            none with labels, a name stands for several pictures, or something is in the output.
    """
    old, new = _source(old_dir), _source(new_dir)
    schema = records.schema_of(old.info)
    newer_schema = records.schema_of(new.info)
    if newer_schema.keypoints != schema.keypoints or not (
        newer_schema.categories.keys() <= schema.categories.keys()
    ):
        raise UserError(
            f'{new_dir} has other keypoints or categories than {old_dir}; convert it with '
            f'--schema={os.path.join(old_dir, records.DATASET_FILE)}'
        )
    files.check_new_folder(output_dir)
    older = _pictures(old, schema)
    newer = _pictures(new, schema)
    if not newer:
        raise UserError(f'{new_dir} holds no labelled records')
    _check_names(old_dir, older, newer)
    _check_names(new_dir, newer, newer)
    # Where each newer picture goes.
    target = {name: older.get(name, found)[0].split for name, found in newer.items()}
    rows = [row for name in newer if name in older
            for row in _conflicts(older[name][0], newer[name][0], schema)]  # fmt: skip
    report = _report(older, newer, len(rows))
    with files.folder_written_whole(output_dir) as folder:
        written = _write(old, new, target, schema, folder)
        table = [_COLUMNS, *rows]
        files.write_bytes(os.path.join(folder, CONFLICTS_FILE), files.csv_bytes(table))
        info = _info(old, new, written, schema, report)
        files.write_bytes(os.path.join(folder, records.DATASET_FILE), files.json_bytes(info))
    return report


def _source(records_dir: str) -> _Source:
    info = records.load_dataset_info(records_dir)
    shards: dict[str, dict[str, list[str]]] = {}
    for split, described in info['splits'].items():
        split_dir = os.path.join(records_dir, split)
        integrity.check_split(split_dir, 'all')
        shards[split] = {
            category: records.record_files(records.split_patterns(split_dir, category))
            for category, number in described['records'].items()
            if number
        }
    return _Source(records_dir, info, shards)


class _Found(NamedTuple):
    """A picture of a labelled split, and its garments by key."""

    split: str
    garments: dict[str, Annotation]


def _check_names(records_dir: str, found: Mapping[str, list[_Found]], names: Iterable[str]) -> None:
    """Refuse records in which a name stands for pictures of several splits."""
    for name in names:
        splits = [own.split for own in found.get(name, ())]
        if len(splits) > 1:
            raise UserError(
                f'{records_dir} has pictures called {name!r} in {" and ".join(splits)}: which of '
                'them is meant cannot be told; give them different names and convert again'
            )


def _pictures(source: _Source, schema: KeypointSchema) -> dict[str, list[_Found]]:
    """Return the name of each picture of the labelled splits -> what each split knows of it."""
    found: dict[str, dict[str, _Found]] = {}
    for split, by_category in source.shards.items():
        if not source.info['splits'][split].get('labelled', False):
            continue
        for paths in by_category.values():
            for _, entry in _entries(paths, split, schema):
                name, key = picture_of(entry.annotation.image_id)
                own = found.setdefault(name, {}).setdefault(split, _Found(split, {}))
                own.garments[key] = entry.annotation
    return {name: list(of_name.values()) for name, of_name in found.items()}


def _entries(paths: list[str], split: str, schema: KeypointSchema) -> Iterator[tuple[bytes, Entry]]:
    """Yield each record of some files, serialized, and what it says."""
    if not paths:
        return
    serialized = tf.data.TFRecordDataset(paths)
    both = tf.data.Dataset.zip((serialized, records.decoded(serialized, schema)))
    for record, example in faults.named(both.as_numpy_iterator(), paths, schema):
        box = example['box']
        image_id = example['image_id'].decode()
        annotation = Annotation(
            image_path=image_id,
            image_id=image_id,
            category=example['category'].decode(),
            keypoints=example['keypoints'],
            visibility=example['visibility'],
            box=box if (box[2:] > box[:2]).all() else None,
        )
        size = tuple(example['image_size'].tolist())
        yield record, Entry(digest(example['encoded']), split, annotation, size, ())


def _write(
    old: _Source, new: _Source, target: Mapping[str, str], schema: KeypointSchema, output_dir: str
) -> dict[str, dict[str, list[Entry]]]:
    """Write the records; split -> category -> what was written, in order.

    Args:
        new: The newer ones.
        target: Name of each newer picture -> its split.
        schema: Of both.
    """
    written: dict[str, dict[str, list[Entry]]] = {}
    for split in dict.fromkeys([*old.shards, *target.values()]):
        written[split] = {}
        split_dir = os.path.join(output_dir, split)
        files.make_folder(split_dir)
        for category in schema.categories:
            entries = written[split][category] = []
            merged = _merged(old, new, target, schema, (split, category))
            first = next(merged, None)
            if first is None:
                continue
            with records.shard_writer(records.shard_path(split_dir, category, 0, 1)) as write:
                for record, entry in (first, *merged):
                    write(record)
                    entries.append(entry)
    return written


def _merged(
    old: _Source, new: _Source, target: Mapping[str, str], schema: KeypointSchema, place
) -> Iterator[tuple[bytes, Entry]]:
    """Yield the records of a place, (split, category): older ones that stay, then newer ones."""
    split, category = place
    is_labelled = old.info['splits'].get(split, {}).get('labelled', False)
    for record, entry in _entries(old.shards.get(split, {}).get(category, []), split, schema):
        if not is_labelled or picture_of(entry.annotation.image_id)[0] not in target:
            yield record, entry
    for source_split, by_category in new.shards.items():
        if not new.info['splits'][source_split].get('labelled', False):
            continue
        for record, entry in _entries(by_category.get(category, []), split, schema):
            if target[picture_of(entry.annotation.image_id)[0]] == split:
                yield record, entry


def _conflicts(old: _Found, new: _Found, schema: KeypointSchema) -> Iterator[tuple]:
    """Yield a row of the list for everything that the newer annotations have otherwise."""
    for pair in _pairs(old.garments, new.garments):
        image_id = next(garment.image_id for garment in pair if garment)
        categories = [garment.category if garment else 'absent' for garment in pair]
        if 'absent' in categories:
            yield image_id, old.split, 'garment', *categories, ''
            continue
        if categories[0] != categories[1]:
            yield image_id, old.split, 'category', *categories, ''
        before, after = pair
        for k, name in enumerate(schema.keypoints):
            cells = [_cell(garment, k) for garment in pair]
            away = float(np.linalg.norm(before.keypoints[k] - after.keypoints[k]))
            there = before.visibility[k] >= 0 and after.visibility[k] >= 0
            if before.visibility[k] != after.visibility[k] or (there and away > _SAME):
                yield image_id, old.split, name, *cells, f'{away:.2f}' if there else ''


def _pairs(
    old: Mapping[str, Annotation], new: Mapping[str, Annotation]
) -> list[tuple[Annotation | None, Annotation | None]]:
    """Return the garments of a picture before and after, None where there was or is none.

    Each tool numbers them in its own way: where the keys are not the same, those of a category are
    one that are nearest to each other.
    """
    before, after, pairs = dict(old), dict(new), []
    if old.keys() != new.keys():
        both = ((i, j) for i in old for j in new if old[i].category == new[j].category)
        for i, j in sorted(both, key=lambda keys: _distance(old[keys[0]], new[keys[1]])):
            if i in before and j in after:
                pairs.append((before.pop(i), after.pop(j)))
    rest = dict.fromkeys([*before, *after])
    return pairs + [(before.get(key), after.get(key)) for key in rest]


def _distance(one: Annotation, other: Annotation) -> float:
    """Return the mean distance of the points that both have, px."""
    both = (one.visibility >= 0) & (other.visibility >= 0)
    distances = np.linalg.norm(one.keypoints[both] - other.keypoints[both], axis=-1)
    return float(distances.mean()) if both.any() else np.inf


def _cell(annotation: Annotation, k: int) -> str:
    """Return a point as x_y_visibility, continuous px; '-1_-1_-1' where it is absent."""
    if annotation.visibility[k] < 0:
        return '-1_-1_-1'
    x, y = annotation.keypoints[k]
    return f'{x:.2f}_{y:.2f}_{annotation.visibility[k]}'


def _report(
    older: Mapping[str, list[_Found]], newer: Mapping[str, list[_Found]], conflicts: int
) -> Report:
    count: collections.Counter = collections.Counter()
    for name, found in older.items():
        of_name = sum(len(own.garments) for own in found)
        count['replaced' if name in newer else 'kept'] += of_name
    for name, found in newer.items():
        of_name = sum(len(own.garments) for own in found)
        count['updated' if name in older else 'added'] += of_name
    return Report(*(count[field] for field in Report._fields[:-1]), conflicts)


def _info(
    old: _Source,
    new: _Source,
    written: Mapping[str, Mapping[str, list[Entry]]],
    schema: KeypointSchema,
    report: Report,
) -> dict[str, Any]:
    """Return the content of dataset.json; `sources` and settings are those of the older records."""
    splits = {}
    for split, part in written.items():
        is_labelled = old.info['splits'].get(split, {'labelled': True}).get('labelled', False)
        splits[split] = {
            **dataset_info.describe_part(part, is_labelled, schema),
            'shards': {category: int(bool(entries)) for category, entries in part.items()},
        }
    names = ('dataset', 'settings', 'sources', 'point_offset')
    kept = {name: old.info[name] for name in names if name in old.info}
    return {
        **kept,
        'schema': schema_files.describe(schema),
        'splits': splits,
        'merged': {'old': old.path, 'new': new.path, **report._asdict()},
    }
