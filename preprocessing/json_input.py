"""Reads JSON and YAML that others wrote: every fault names the file, the item and the field."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from config import UserError
from preprocessing.files import read_regular

MAX_FILE_SIZE = 512 << 20  # bytes; the annotations of COCO 2017 with all outlines have 240 MB
# Lists and objects, and values in them, that a file may have. Each of them takes up to 100 bytes.
MAX_CONTAINERS, MAX_VALUES = 8_000_000, 64_000_000
MAX_YAML_SIZE = 1 << 20  # bytes; its reader is slow
_LONGEST_SHOWN = 60  # characters of a value in an error
_KINDS = {
    str: 'a text',
    int: 'a whole number',
    float: 'a number',
    list: 'a list',
    dict: 'an object',
}
_REQUIRED = object()


class Node:
    """A value with its place.

    Attributes:
        value: As the file has it.
        place: Such as 'a.json: annotations[3].bbox'.
    """

    __slots__ = ('place', 'value')

    def __init__(self, value: Any, place: str):
        self.value, self.place = value, place

    def error(self, problem: str) -> UserError:
        """Return the error that names this place."""
        return UserError(f'{self.place}: {problem}')

    def _wrong(self, kind: str) -> UserError:
        shown = repr(self.value)
        if isinstance(self.value, (dict, list)):
            shown = f'{_KINDS[type(self.value)]} of {len(self.value)}'
        return self.error(f'{shown[:_LONGEST_SHOWN]} must be {kind}')

    def of(self, kind: type) -> Any:
        """Return the value, of this type: str, int, float (any finite number), list or dict."""
        value = self.value
        if kind is float:
            if type(value) not in (int, float) or not abs(value) < 1e300:
                raise self._wrong('a finite number')
            return float(value)
        if kind is int and type(value) is float and value.is_integer():
            return int(value)  # to JSON 1.0 is 1
        if type(value) is not kind:
            raise self._wrong(_KINDS[kind])
        return value

    def field(self, name: str, default: Any = _REQUIRED) -> Node:
        """Return the value under a name in an object; the default where it is missing or null."""
        values = self.of(dict)
        if values.get(name) is None:
            if default is _REQUIRED:
                raise self.error(f'{name!r} is missing')
            return Node(default, self._place_of(name))
        return Node(values[name], self._place_of(name))

    def _place_of(self, name: str) -> str:
        """Return the place of a field; ': ' stands between the name of the file and the first."""
        return f'{self.place}.{name}' if ': ' in self.place else f'{self.place}: {name}'

    def has(self, name: str) -> bool:
        return self.of(dict).get(name) is not None

    def items(self) -> Iterator[Node]:
        """Yield those of a list."""
        for number, value in enumerate(self.of(list)):
            yield Node(value, f'{self.place}[{number}]')

    def fields(self) -> Iterator[tuple[str, Node]]:
        """Yield those of an object, by name."""
        for name, value in self.of(dict).items():
            yield name, Node(value, self._place_of(name))

    def numbers(self, count: int | None = None) -> list[float]:
        """Return those of a list of `count` finite numbers, or of any number of them."""
        values = self.of(list)
        if count is not None and len(values) != count:
            raise self.error(f'a list of {len(values)} must have {count} numbers')
        # By far the most values of a file pass here: no Node is made for each.
        for number, value in enumerate(values):
            if type(value) not in (int, float) or not abs(value) < 1e300:
                raise Node(value, f'{self.place}[{number}]')._wrong('a finite number')
        return values

    def texts(self) -> tuple[str, ...]:
        """Return those of a list of texts."""
        return tuple(item.of(str) for item in self.items())

    def refuse_others(self, known) -> None:
        """Refuse an object with other fields than these."""
        for name in self.of(dict):
            if name not in known:
                raise self.error(f'unknown field {name!r}; there are: {", ".join(known)}')


def read_json(path: str | os.PathLike) -> Node:
    """Read a JSON file, local or remote.

    Raises:
        UserError: It cannot be read, is no JSON, too large or too deep, has an object that names a
            field twice or a number that is none.
    """
    name = os.fspath(path)
    return Node(_parsed(_read(name), name), name)


def read_json_or_yaml(path: str | os.PathLike) -> Node:
    """Return the same, or YAML where the name ends in .yaml or .yml."""
    name = os.fspath(path)
    if not name.lower().endswith(('.yaml', '.yml')):
        return read_json(name)
    data = _read(name)
    if len(data) > MAX_YAML_SIZE:
        raise UserError(f'{name}: {len(data)} bytes; at most {MAX_YAML_SIZE} of YAML are read')
    import yaml  # here, because only such files need it

    try:
        return Node(yaml.load(data, Loader=_strict_loader(yaml)), name)
    except yaml.YAMLError as error:
        raise UserError(f'{name}: no YAML: {" ".join(str(error).split())}') from error
    except (RecursionError, ValueError) as error:
        raise UserError(f'{name}: no YAML that can be read: {error}') from error


def _read(path: str) -> bytes:
    try:
        return read_regular(path, MAX_FILE_SIZE)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}') from error


def _parsed(data: bytes, path: str) -> Any:
    containers, values = data.count(b'[') + data.count(b'{'), data.count(b',')
    if containers > MAX_CONTAINERS or values > MAX_VALUES:
        raise UserError(
            f'{path}: about {containers} lists and objects and {values} values; at most '
            f'{MAX_CONTAINERS} and {MAX_VALUES} are read'
        )
    try:
        return json.loads(
            data.decode('utf-8-sig'), object_pairs_hook=_once, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: not UTF-8 text at byte {error.start}') from error
    except RecursionError:
        raise UserError(f'{path}: lists or objects are nested too deeply') from None
    except ValueError as error:  # also of numbers with too many digits
        raise UserError(f'{path}: no JSON: {error}') from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'an object has the field {twice!r} twice')
    return values


def _refuse_constant(text: str) -> float:
    raise ValueError(f'{text} is no number of JSON')


def _strict_loader(yaml) -> type:
    class StrictLoader(yaml.SafeLoader):
        """Refuses names that are there twice, and aliases, which can stand for any size."""

        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.composer.ComposerError(None, None, 'an alias', event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node, deep=False):
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            for name in names:
                if type(name) not in (str, int) or names.count(name) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'the name {name!r} is twice or no text', node.start_mark
                    )
            # Numbers, as of classes, are names as in JSON.
            return {str(n): v for n, v in super().construct_mapping(node, deep).items()}

    return StrictLoader
