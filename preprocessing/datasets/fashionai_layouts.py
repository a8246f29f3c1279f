"""Finds the splits and the pictures of FashionAI on disk, in the layouts that people have.

    2018        train_0/Annotations/annotations.csv    train_0/Images/blouse/x.jpg
                test_0/test.csv                        test_0/Images/blouse/x.jpg
    re-release  train1/blouse/x.jpg  train2/skirt/x.jpg  test/blouse/x.jpg, with the CSVs beside the
                pictures, in Annotations/, or in the directory that holds train1, train2 and test

An image_id is a path like Images/blouse/x.jpg, blouse/x.jpg or train1/Images/blouse/x.jpg. It is
not to be trusted: what leads out of the data is refused.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

from absl import logging

from config import UserError
from preprocessing.datasets.registry import Annotation, Split
from preprocessing.files import check_regular, exists, is_folder, local_path, names_in
from preprocessing.schema import KeypointSchema
from preprocessing.tables import open_table, read_table

_CONTROL_CHARACTER = re.compile('[\x00-\x1f]')
_PICTURES = 'Images'
_ANNOTATIONS = 'Annotations'
_CSV_ENDINGS = ('.csv', '.csv.gz')
# A table of a test split has image_id, image_category and at most one column more.
_MAX_COLUMNS_WITHOUT_POINTS = 3
_HEAD_SIZE = 1 << 16  # bytes; more than two lines of a table


def find_splits(
    data_dir: str, schema: KeypointSchema, allow_links: Sequence[str] = ()
) -> list[Split]:
    """Return the splits below `data_dir`, sorted by name.

    A split is a directory with pictures (Images/<category> or <category>) and one CSV, its own or
    one of `data_dir` that bears its name: 'train1.csv' belongs to train1, 'train_extracted.csv' to
    train1 and train2 together, as the split 'train'. A split is labelled if its CSV has points.

    Raises:
        UserError: There is no split, or it is not clear which CSV is the one of a directory.
    """
    if not is_folder(data_dir):
        raise UserError(f'no directory {data_dir!r}')
    directories = [d for d in _directories(data_dir) if _holds_pictures(d, schema)]
    tables: dict[str, list[str]] = {}
    for directory, table in _tables_of_directories(data_dir, directories).items():
        tables.setdefault(table, []).append(directory)
    for directory in sorted(set(directories).difference(*tables.values())):
        logging.warning('%s has pictures but no CSV; it is left out', directory)
    if not tables:
        raise UserError(_nothing_found(data_dir, directories, schema))
    where = data_dir, schema, allow_links
    splits = [_split(_split_name(roots), table, roots, where) for table, roots in tables.items()]
    return sorted(splits, key=lambda split: split.name)


def _split(name: str, table: str, roots: Sequence[str], where: tuple) -> Split:
    annotations = functools.partial(_annotations, table, roots, *where)
    return Split(name, _has_points(table), (table,), annotations)


def flat_splits(data_dir: str, schema: KeypointSchema, allow_links: Sequence[str]) -> list[Split]:
    """Return the splits of a directory without directories of splits: its CSVs, by name.

    The pictures are below `data_dir`, or below Images/ in it. None where there is no CSV, or a
    directory of a split.
    """
    if not is_folder(data_dir):
        raise UserError(f'no directory {data_dir!r}')
    if any(_holds_pictures(directory, schema) for directory in _directories(data_dir)):
        return []
    where = data_dir, schema, allow_links
    return [
        _split(posixpath.basename(table).split('.')[0], table, (data_dir,), where)
        for table in _tables_in(data_dir)
    ]


def _nothing_found(data_dir: str, directories: Sequence[str], schema: KeypointSchema) -> str:
    if directories:
        return (
            f'{data_dir}: no CSV for {", ".join(map(posixpath.basename, directories))}; looked in'
            f' each, in its {_ANNOTATIONS}/, and in {data_dir} for one that bears its name'
        )
    if _holds_pictures(data_dir, schema):
        return f'{data_dir} is a split itself; give the directory that holds the splits'
    first = next(iter(schema.categories))
    return (
        f'{data_dir} holds no split: looked for directories like train_0/{_PICTURES}/{first} or'
        f' train1/{first} with a CSV in {_ANNOTATIONS}/, beside the pictures or in {data_dir};'
        f' it holds {", ".join(names_in(data_dir)[:8]) or "nothing"}. Data of another kind need'
        ' --dataset=coco, labelme, ...: docs/data.md'
    )


def _directories(data_dir: str) -> list[str]:
    paths = (posixpath.join(data_dir, name) for name in names_in(data_dir) if name[:1] != '.')
    return [p for p in paths if posixpath.basename(p) != _PICTURES and is_folder(p)]


def _holds_pictures(directory: str, schema: KeypointSchema) -> bool:
    return any(
        is_folder(posixpath.join(directory, name)) for name in (_PICTURES, *schema.categories)
    )


def _tables_in(directory: str) -> list[str]:
    """Return the CSVs of a directory and of its Annotations/."""
    paths = []
    for place in (posixpath.join(directory, _ANNOTATIONS), directory):
        if is_folder(place):
            paths += [posixpath.join(place, name) for name in names_in(place) if name[:1] != '.']
    return [path for path in paths if path.lower().endswith(_CSV_ENDINGS)]


def _stem(path: str) -> str:
    return posixpath.basename(path).split('.')[0].lower()


def _choose(tables: Sequence[str], directory: str) -> str | None:
    """Return the CSV of `directory`: in Annotations/, with answers, or of the usual name."""
    usual = ('annotations', 'train', 'test', posixpath.basename(directory).lower())
    preferences = (
        [path for path in tables if posixpath.basename(posixpath.dirname(path)) == _ANNOTATIONS],
        [path for path in tables if 'answer' in _stem(path)],
        [path for path in tables if _stem(path) in usual],
    )
    for preferred in preferences:
        tables = [path for path in tables if path in preferred] or tables
        if len(tables) == 1:
            break
    if len(tables) > 1:
        raise UserError(
            f'{directory}: which CSV is the right one: {", ".join(tables)}? Leave one of them'
        )
    return tables[0] if tables else None


def _tables_of_directories(data_dir: str, directories: Sequence[str]) -> dict[str, str]:
    """Return directory -> its CSV, for those that have one."""
    chosen = {directory: _choose(_tables_in(directory), directory) for directory in directories}
    shared: dict[str, list[str]] = {}
    for table in _tables_in(data_dir):
        for directory in _owners(table, directories):
            shared.setdefault(directory, []).append(table)
    for directory in directories:
        chosen[directory] = chosen[directory] or _choose(shared.get(directory, []), directory)
    return {directory: table for directory, table in chosen.items() if table}


def _owners(table: str, directories: Iterable[str]) -> list[str]:
    """Return the directories whose name a CSV bears, or its word ('train' of 'train1')."""
    names = {directory: posixpath.basename(directory).lower() for directory in directories}
    exact = [directory for directory, name in names.items() if name in _stem(table)]
    if exact:
        return [max(exact, key=lambda directory: len(names[directory]))]
    return [directory for directory, name in names.items() if _word(name) in _stem(table)]


def _word(name: str) -> str:
    return re.sub(r'[_\d]+$', '', name) or name


def _split_name(directories: Sequence[str]) -> str:
    names = [posixpath.basename(directory) for directory in directories]
    return names[0] if len(names) == 1 else _word(names[0])


def _has_points(table: str) -> bool:
    """Return whether a CSV has columns of points; the first may be a header, also a short one."""
    check_regular(table)
    with open_table(table) as file:
        head = file.read(_HEAD_SIZE)
    columns = [len(line.split(b',')) for line in head.splitlines()[:2]]
    if columns and max(columns) < 2:
        raise UserError(f'{table}, line 1: no comma, which is what separates the columns')
    return max(columns, default=0) > _MAX_COLUMNS_WITHOUT_POINTS


def _annotations(
    table_path: str,
    roots: Sequence[str],
    data_dir: str,
    schema: KeypointSchema,
    allow_links: Sequence[str],
) -> Iterator[Annotation]:
    """Yield the rows of a CSV, with the paths of their pictures below `roots` or `data_dir`."""
    table = read_table(table_path, schema)
    for row, line in enumerate(table.lines):
        image_id = str(table.image_ids[row])
        try:
            path = picture_path(image_id, roots, data_dir, allow_links)
        except ValueError as error:
            raise UserError(f'{table_path}, line {line}: {error}') from error
        yield Annotation(
            image_path=path,
            image_id=image_id,
            category=str(table.categories[row]),
            keypoints=table.keypoints[row],
            visibility=table.visibility[row],
        )


def picture_path(
    image_id: str, roots: Sequence[str], data_dir: str, allow_links: Sequence[str] = ()
) -> str:
    """Return where the picture of an image_id is, or where it should be if it is nowhere.

    Args:
        image_id: Such as Images/blouse/x.jpg, blouse/x.jpg or train1/Images/blouse/x.jpg.
        roots: Directories of the split.
        data_dir: The directory above them.
        allow_links: Directories that symbolic links may lead to, beside these.

    Raises:
        UserError: The image_id, or a symbolic link on the way, leads out of the data.
    """
    fault = _fault_of_id(image_id)
    if fault:
        raise UserError(
            f'image_id {image_id!r} {fault}; it must be a path like Images/blouse/x.jpg'
        )
    first = None
    for base, path in _candidates(image_id, roots, data_dir):
        first = first or path
        if exists(path):
            allowed = roots if base in roots else (*roots, data_dir)
            if not _stays_within(path, (*allowed, *allow_links)):
                raise UserError(
                    f'image_id {image_id!r} leads out of {base} by a symbolic link, to '
                    f'{os.path.realpath(path)}; put the pictures there, make {base} itself the '
                    'link, or give the directory that the links lead to by --allow_links=DIR'
                )
            return path
    return first


def _fault_of_id(image_id: str) -> str | None:
    parts = image_id.split('/')
    faults = {
        'is empty': not image_id.strip(),
        'has a control character': _CONTROL_CHARACTER.search(image_id) is not None,
        'has a backslash': '\\' in image_id,
        'is an absolute path': image_id.startswith('/') or '://' in image_id,
        'has a drive letter': bool(re.match(r'[A-Za-z]:', image_id)),
        "has a part '..'": '..' in parts,
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def _candidates(image_id: str, roots: Sequence[str], data_dir: str) -> Iterator[tuple[str, str]]:
    """Yield (directory, path in it) in order: as written, without Images, with it."""
    yield from ((root, posixpath.join(root, image_id)) for root in roots)
    yield data_dir, posixpath.join(data_dir, image_id)
    first, *rest = image_id.split('/')
    named = [root for root in roots if posixpath.basename(root) == first]
    parts = rest if named else [first, *rest]
    relative = '/'.join(parts[1:] if parts[:1] == [_PICTURES] else parts)
    for root in named or roots:
        yield root, posixpath.join(root, relative)
        yield root, posixpath.join(root, _PICTURES, relative)


def _stays_within(path: str, directories: Iterable[str]) -> bool:
    local = local_path(path)
    if local is None:
        return True  # an object store has no links
    real = os.path.realpath(local)
    roots = (os.path.realpath(local_path(directory) or directory) for directory in directories)
    return any(real.startswith(os.path.join(root, '')) for root in roots)
