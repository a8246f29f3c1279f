"""Schemas as plain values: in dataset.json, in an experiment, in a file beside the data.

    {"name": "hats", "keypoints": ["brim_left", "brim_right", "top"],
     "categories": {"hat": ["brim_left", "brim_right", "top"]},
     "normalizers": {"hat": ["brim_left", "brim_right"]}}

The fields are those of KeypointSchema. `categories` may be a list of names: each then has all the
keypoints. `normalizers` may be one pair, or one of schema.SIZES, for all categories.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from preprocessing.json_input import Node, read_json_or_yaml
from preprocessing.schema import SIZES, KeypointSchema, Normalizer

SUFFIXES = ('.json', '.yaml', '.yml')

_FIELDS = tuple(f.name for f in dataclasses.fields(KeypointSchema) if f.name != 'positions')
_MOST_KEYPOINTS, _MOST_CATEGORIES = 2000, 500  # more than any data set has
_LONGEST_NAME = 80  # characters
# Names of categories are parts of file names, and are listed with commas.
_BAD_IN_CATEGORY = re.compile(r'[^\w .+()-]|^[ .-]|[ .]$')
_RESERVED = ('all', 'each', 'all_then_each')


def describe(schema: KeypointSchema) -> dict[str, Any]:
    """Return the fields of a whole data set's schema as plain values, defaults left out."""
    values = {name: getattr(schema, name) for name in _FIELDS}
    defaults = {f.name: f.default for f in dataclasses.fields(KeypointSchema)}
    return {
        name: _plain(value)
        for name, value in values.items()
        if value != defaults[name] and (value or name in ('swaps', 'in_out'))
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def parse(values: Any, place: str) -> KeypointSchema:
    """Return the inverse of `describe`, strict.

    Args:
        values: Of JSON.
        place: What errors name, such as the path of the file.

    Raises:
        UserError: A field is missing, unknown or wrong; names it.
    """
    node = Node(values, place)
    node.refuse_others(_FIELDS)
    keypoints = _keypoints(node.field('keypoints'))
    categories = _categories(node.field('categories'), keypoints)
    fields = {
        'name': node.field('name', 'own').of(str),
        'keypoints': keypoints,
        'categories': categories,
        'normalizers': _normalizers(node.field('normalizers'), categories),
        'skeleton': tuple(chain.texts() for chain in node.field('skeleton', []).items()),
        'left_of': _pairs(node.field('left_of', [])),
        'levels': {name: level.of(int) for name, level in node.field('levels', {}).fields()},
        'measurements': {
            name: tuple(end.texts() for end in ends.items())
            for name, ends in node.field('measurements', {}).fields()
        },
    }
    sigmas = node.field('sigmas', {}).fields()
    fields['sigmas'] = {name: sigma.of(float) for name, sigma in sigmas}
    if node.has('metric'):
        fields['metric'] = node.field('metric').of(str)
    for name in ('swaps', 'in_out'):
        fields[name] = _pairs(node.field(name)) if node.has(name) else None
    _check_swaps(node, fields['swaps'], categories)
    if node.has('usual_side'):
        fields['usual_side'] = node.field('usual_side').of(int)
    if node.has('usual_middle'):
        fields['usual_middle'] = tuple(node.field('usual_middle').numbers(2))
    if node.has('usual_reach'):
        fields['usual_reach'] = node.field('usual_reach').of(float)
    try:
        return KeypointSchema(**fields)
    except ValueError as error:
        raise node.error(str(error)) from error


def read(path: str | os.PathLike) -> KeypointSchema:
    """Return the schema in a JSON or YAML file, or in the dataset.json of converted records.

    Raises:
        UserError: It cannot be read or is wrong; tells the file and the field.
    """
    node = read_json_or_yaml(path)
    if isinstance(node.value, dict) and {'dataset', 'schema'} <= node.value.keys():
        node = node.field('schema')
    return parse(node.value, node.place)


def checked_category(node: Node) -> str:
    """Return the name of a category, which must be fit for the name of a file.

    Raises:
        UserError: It is not.
    """
    name = _checked_name(node)
    bad = _BAD_IN_CATEGORY.search(name)
    if bad or name in _RESERVED:
        allowed = 'letters, digits and _ . + - ( ), blanks inside'
        raise node.error(f'{name!r} cannot name a category: it may have {allowed}, and not be '
                         f'{" or ".join(_RESERVED)}')  # fmt: skip
    return name


def _checked_name(node: Node) -> str:
    name = node.of(str)
    if not name or len(name) > _LONGEST_NAME or name != name.strip() or not name.isprintable():
        allowed = f'1 to {_LONGEST_NAME} printable characters, no blank at its ends'
        raise node.error(f'{name[:_LONGEST_NAME]!r} is no name: it must have {allowed}')
    return name


def _keypoints(node: Node) -> tuple[str, ...]:
    names = tuple(_checked_name(item) for item in node.items())
    if not 0 < len(names) <= _MOST_KEYPOINTS:
        raise node.error(f'{len(names)} keypoints; there must be 1 to {_MOST_KEYPOINTS}')
    return names


def _categories(node: Node, keypoints: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    if isinstance(node.value, list):
        categories = {checked_category(item): keypoints for item in node.items()}
        if len(categories) < len(node.value):
            raise node.error('a category is named twice')
    else:
        categories = {}
        for name, names in node.fields():
            checked_category(Node(name, node.place))
            categories[name] = names.texts()
            if not categories[name] or len(set(categories[name])) < len(categories[name]):
                raise names.error('must be different keypoints, at least one')
    if not 0 < len(categories) <= _MOST_CATEGORIES:
        raise node.error(f'{len(categories)} categories; there must be 1 to {_MOST_CATEGORIES}')
    return categories


def _normalizers(node: Node, categories: Mapping[str, Any]) -> dict[str, Normalizer]:
    if not isinstance(node.value, dict):
        return dict.fromkeys(categories, _normalizer(node))
    return {name: _normalizer(value) for name, value in node.fields()}


def _normalizer(node: Node) -> Normalizer:
    if isinstance(node.value, str) and node.value in SIZES:
        return node.value
    if not isinstance(node.value, list) or len(node.value) != 2:
        raise node.error(f'must be a pair of keypoints or one of {", ".join(SIZES)}')
    return node.texts()


def _pairs(node: Node) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in node.items():
        pairs.append(item.texts())
        if len(pairs[-1]) != 2:
            raise item.error(f'{len(pairs[-1])} names; a pair has 2')
    return tuple(pairs)


def _check_swaps(node: Node, swaps, categories: Mapping[str, tuple[str, ...]]) -> None:
    """Check that a point is in one pair at most, and a pair whole in or out of a category."""
    seen: dict[str, tuple[str, str]] = {}
    for pair in swaps or ():
        for name in pair:
            if name in seen:
                raise node.error(
                    f'swaps: {name!r} is in {list(seen[name])} and in {list(pair)}; mirroring '
                    'twice must give the same points'
                )
        seen.update(dict.fromkeys(pair, pair))
        for category, names in categories.items():
            if len(set(pair) & set(names)) == 1 and pair[0] != pair[1]:
                raise node.error(f'swaps: {category} has only one of {list(pair)}')
