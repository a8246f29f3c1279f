"""Annotations and pictures of every split -> sharded TFRecords, dataset.json and rejected.csv.

Two passes, both in parallel processes. The first decodes every picture to check it and takes a hash
of its bytes; the second copies the good ones into shards, each written by one process. What is
written depends on the pictures and the settings only: by its hash a picture is for training or for
validation, so identical pictures always fall on the same side; records are ordered by the hash,
which mixes them.

Memory: no picture outlives the moment it is worked on. Held are the annotation, the size and the
16 bytes of the hash, together about 1 kB a picture; reading a table needs about 3 kB a row for a
moment.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from config import UserError
from preprocessing import files, records, schema_files
from preprocessing.conversion import (
    corrections,
    dataset_info,
    image_ids,
    images,
    integrity,
    mirrors,
)
from preprocessing.conversion.dataset_info import Part
from preprocessing.conversion.parallel import Workers
from preprocessing.conversion.screening import Entry, Rejected, Track, digest, screen
from preprocessing.conversion.settings import Settings
from preprocessing.datasets import DATASETS, Annotation, Source, Split
from preprocessing.datasets.registry import VAL as FOR_VALIDATION
from preprocessing.schema import KeypointSchema

TRAIN, VAL = 'train', 'val'
REJECTED_FILE = 'rejected.csv'
# 60 to 150 MB of pictures of 512 px. A constant, so that shards do not depend on the machine.
PICTURES_PER_SHARD = 2000
# Starting a process, with its TensorFlow, takes as long as checking about so many pictures.
PICTURES_PER_WORKER = 2500

_SHARD_NAME = re.compile(r'-\d{5}-of-\d{5}\.tfrecord((\.\d+)?\.partial)?$')
# What a killed conversion leaves beside the shards.
_LEFTOVER = re.compile(r'(dataset\.json|rejected\.csv)(\.\d+)?\.partial')


class _Shard(NamedTuple):
    path: str
    entries: list[Entry]
    max_side: int | None


def convert(settings: Settings, track: Track) -> dict[str, Any]:
    """Convert a data set.

    Args:
        track: (iterable, total, label) -> the same items; shows the progress.

    Returns:
        The content of dataset.json.

    Raises:
        UserError: A fault of the data or the settings.
    """
    spec = DATASETS.get(settings.dataset)
    given = schema_files.read(settings.schema) if settings.schema else None
    for directory in settings.allow_links:
        if not tf.io.gfile.isdir(directory):
            raise UserError(f'--allow_links={directory}: no such directory')
    source = Source(settings.data_dir, given, settings.point_offset, settings.allow_links)
    schema, found = spec.open(source)
    splits = _choose_splits(found, settings)
    outputs = _output_names(splits, settings)
    _prepare_target(settings.records_dir, outputs)
    with files.alone_in(settings.records_dir):
        return _convert_alone(settings, splits, schema, track)


def _convert_alone(
    settings: Settings, splits: Sequence[Split], schema: KeypointSchema, track: Track
) -> dict[str, Any]:
    """Convert in a directory that nobody else writes."""
    annotations, corrected = _annotations(splits, settings, schema)
    useful_workers = math.ceil(len(annotations) / PICTURES_PER_WORKER)
    with Workers(min(settings.num_workers, useful_workers)) as workers:
        how = settings.skip_bad_images, settings.max_side, settings.keeps_damaged
        entries, rejected = screen(annotations, workers, track, *how)
        _check_every_split_has_some(splits, entries, rejected)
        parts = _assign(entries, splits, settings, schema)
        shards = _shards(parts, settings)
        _write_shards(shards, parts, settings.records_dir, workers, track)
    info = _describe(settings, schema, splits, parts, rejected)
    info['corrections'] = corrected
    info['warnings'] = mirrors.warnings(parts.get(TRAIN, {}), schema)
    _write_rejected(posixpath.join(settings.records_dir, REJECTED_FILE), rejected)
    path = posixpath.join(settings.records_dir, records.DATASET_FILE)
    files.write_bytes(path, files.json_bytes(info))
    return info


def _annotations(
    splits: Sequence[Split], settings: Settings, schema: KeypointSchema
) -> tuple[list[tuple[str, Annotation]], dict[str, Any] | None]:
    """Return all annotations with the names of their splits, and what was corrected in them."""
    annotations = [(split.name, one) for split in splits for one in split.annotations()]
    is_given = settings.folds is None  # which pictures are to validate with
    pools = {s.name: s.name if s.is_apart else s.part if is_given else TRAIN for s in splits}
    annotations = image_ids.told_apart(annotations, pools)
    if settings.corrections is None:
        return annotations, None
    labelled = [split.name for split in splits if split.labelled]
    annotations, report = corrections.correct(annotations, labelled, settings.corrections, schema)
    logging.info(
        '%s: %d points of %d pictures corrected',
        settings.corrections,
        report['points'],
        report['pictures'],
    )
    return annotations, report


def _choose_splits(found: Sequence[Split], settings: Settings) -> list[Split]:
    by_name = {split.name: split for split in found}
    for name in settings.splits:
        if name not in by_name:
            raise UserError(
                f'unknown split {name!r} in {settings.data_dir}; there are: {", ".join(by_name)}'
            )
    return [split for name, split in by_name.items() if name in (settings.splits or by_name)]


def _output_names(splits: Sequence[Split], settings: Settings) -> list[str]:
    """Return the folders to write: train and val for labelled splits, one for each other."""
    has_val = settings.val_range[1] or any(split.part == FOR_VALIDATION for split in splits)
    train = [TRAIN, VAL] if has_val else [TRAIN]
    names = train if not all(split.is_apart for split in splits) else []
    for split in splits:
        if not split.is_apart:
            continue
        if split.name in (TRAIN, VAL):
            raise UserError(
                f'{split.files[0]} has no points, but {split.name!r} is where labelled records go;'
                ' rename its directory'
            )
        names = [*names, split.name]
    return names


def _prepare_target(records_dir: str, outputs: Sequence[str]) -> None:
    """Make the directory before the long work; refuse to mix with another conversion."""
    if tf.io.gfile.exists(records_dir) and not tf.io.gfile.isdir(records_dir):
        raise UserError(f'records_dir={records_dir!r} is a file; it must be a directory')
    files.make_folder(records_dir)
    for name in sorted(entry.rstrip('/') for entry in tf.io.gfile.listdir(records_dir)):
        inside = posixpath.join(records_dir, name)
        if name in outputs:
            files.check_no_link(inside)
        if name not in outputs and _shards_in(inside):
            raise UserError(
                f'{records_dir} holds records of {name!r}, which this conversion does not write;'
                ' delete them, convert all splits in one go, or choose another records_dir'
            )


def _shards_in(directory: str) -> list[str]:
    """Return paths of the shards in a directory, also of those left incomplete."""
    if not tf.io.gfile.isdir(directory):
        return []
    names = (name for name in tf.io.gfile.listdir(directory) if _SHARD_NAME.search(name))
    return [posixpath.join(directory, name) for name in names]


def _check_every_split_has_some(
    splits: Sequence[Split], entries: Sequence[Entry], rejected: Sequence[Rejected]
) -> None:
    """Refuse a split without any usable picture: a wrong folder rather than bad pictures."""
    usable = {entry.source for entry in entries}
    for split in splits:
        if split.name not in usable:
            first = next(one for one in rejected if one.source == split.name)
            raise UserError(
                f'no picture of {split.files[0]} can be used; the first, {first.image_id}:'
                f' {first.reason}'
            )


def _assign(
    entries: Sequence[Entry], splits: Sequence[Split], settings: Settings, schema: KeypointSchema
) -> dict[str, dict[str, list[Entry]]]:
    """Return output folder -> category -> its records, in the order of writing."""
    pooled = {split.name for split in splits if not split.is_apart}
    for_validation = {split.name for split in splits if split.part == FOR_VALIDATION} & pooled
    if settings.folds is not None:
        for_validation = set()
    parts: dict[str, dict[str, list[Entry]]] = {
        name: {category: [] for category in schema.categories}
        for name in _output_names(splits, settings)
    }
    for entry in entries:
        name = entry.source
        if name in pooled:
            by_hash = not for_validation and settings.is_for_validation(entry.digest)
            name = VAL if by_hash or name in for_validation else TRAIN
        parts[name][entry.annotation.category].append(entry)
    for categories in parts.values():
        for members in categories.values():
            members.sort(key=lambda entry: (entry.digest, entry.source, entry.annotation.image_id))
    return parts


def _num_shards(num_records: int, settings: Settings) -> int:
    wanted = settings.num_shards or math.ceil(num_records / PICTURES_PER_SHARD)
    return min(wanted, num_records)


def _shards(parts: Mapping[str, Part], settings: Settings) -> list[_Shard]:
    shards = []
    for name, part in parts.items():
        for category, paths in _paths(name, part, settings).items():
            entries, count = part[category], len(paths)
            for shard, path in enumerate(paths):
                start, stop = records.shard_range(len(entries), shard, count)
                shards.append(_Shard(path, entries[start:stop], settings.max_side))
    return shards


def _paths(name: str, part: Part, settings: Settings) -> dict[str, list[str]]:
    """Return category -> the files of an output split."""
    directory = posixpath.join(settings.records_dir, name)
    paths = {}
    for category, entries in part.items():
        count = _num_shards(len(entries), settings)
        shards = range(count)
        paths[category] = [records.shard_path(directory, category, i, count) for i in shards]
    return paths


def _write_shards(
    shards: Sequence[_Shard], parts: Iterable[str], records_dir: str, workers: Workers, track: Track
) -> None:
    """Write all shards, after which the directories hold these and no others."""
    info_path = posixpath.join(records_dir, records.DATASET_FILE)
    if tf.io.gfile.exists(info_path):
        tf.io.gfile.remove(info_path)  # from here on until the end the directory is incomplete
    directories = [posixpath.join(records_dir, name) for name in parts]
    for directory in directories:
        files.make_folder(directory)
    for _ in track(workers.map(_write_shard, shards), len(shards), 'writing shards'):
        pass
    written = {shard.path for shard in shards}
    for directory in directories:
        for path in set(_shards_in(directory)) - written:
            tf.io.gfile.remove(path)
    for name in tf.io.gfile.listdir(records_dir):
        if _LEFTOVER.fullmatch(name):
            tf.io.gfile.remove(posixpath.join(records_dir, name))


def _write_shard(shard: _Shard) -> None:
    with records.shard_writer(shard.path) as write:
        for entry in shard.entries:
            path = entry.annotation.image_path
            data = images.read_image(path)
            if digest(data) != entry.digest:
                raise RuntimeError(f'{path} changed during the conversion; run it again')
            if entry.changes:
                data = images.check_image(data, shard.max_side, keeps_damaged=True).jpeg
            write(records.encode_example(data, entry.annotation, entry.size))


def _describe(
    settings: Settings,
    schema: KeypointSchema,
    splits: Sequence[Split],
    parts: Mapping[str, Part],
    rejected: Sequence[Rejected],
) -> dict[str, Any]:
    entries = [entry for part in parts.values() for one in part.values() for entry in one]
    labelled = [split.name for split in splits if split.labelled]
    written = {name: _paths(name, part, settings) for name, part in parts.items()}
    outputs = {
        name: {
            **dataset_info.describe_part(part, name in (TRAIN, VAL, *labelled), schema),
            'shards': {c: len(paths) for c, paths in written[name].items()},
            integrity.SIZES: {c: integrity.sizes(paths) for c, paths in written[name].items()},
        }
        for name, part in parts.items()
    }
    return {
        'dataset': settings.dataset,
        'schema': schema_files.describe(schema),
        'settings': {
            'splits': [split.name for split in splits],
            **settings.describe(),
        },
        'splits': outputs,
        'sources': dataset_info.describe_sources(splits, entries, rejected, settings.data_dir),
        'rejected': len(rejected),
        'point_offset': splits[0].point_offset,
        'encoded_anew': dataset_info.describe_changes(entries),
        'duplicates': dataset_info.describe_duplicates(entries, labelled),
    }


def _write_rejected(path: str, rejected: Iterable[Rejected]) -> None:
    rows = [['image_id', 'reason'], *([one.image_id, one.reason] for one in rejected)]
    files.write_bytes(path, files.csv_bytes(rows))
