"""Settings as typed values: checks of a dataclass's fields, and dataclasses from text and JSON.

Strict: an unknown key, a wrong type and a value out of range are errors that name the key, what is
there and what would do.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# What a value must be, in words, and the test of it: arguments of `check` and `require`.
POSITIVE = ('positive', lambda value: value > 0)
NOT_NEGATIVE = ('not negative', lambda value: value >= 0)


def unknown(kind: str, key: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a `name` that is not among those known, with the closest that is."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    return ValueError(f'unknown {kind} {key!r}; there are: {", ".join(sorted(known))}{hint}')


def one_of(values: Sequence[Any]) -> tuple[str, Callable[[Any], bool]]:
    """Like POSITIVE, of a value that is one of those given."""
    return f'one of {", ".join(map(str, values))}', list(values).__contains__


def within(low: float, high: float) -> tuple[str, Callable[[Any], bool]]:
    """Like POSITIVE, of a number between these two or equal to one."""
    return f'from {low:g} to {high:g}', lambda value: low <= value <= high


def multiple_of(number: int) -> tuple[str, Callable[[Any], bool]]:
    """Like POSITIVE, of the number, twice the number and so on."""
    return f'a positive multiple of {number}', lambda value: value > 0 and value % number == 0


def check(section: str, name: str, value: Any, allowed: str, test: Callable[[Any], bool]) -> None:
    """Refuses a value.

    Args:
        section: What stands before the name in the error, such as 'network.'.
        name: What the value is called.
        allowed: What the value must be, in words.
        test: Whether it is.

    Raises:
        ValueError: The value fails the test.
    """
    if not test(value):
        raise ValueError(f'{section}{name}={value!r}: must be {allowed}')


def require(config: Any, section: str, allowed: str, test: Callable[[Any], bool], *names: str):
    """Checks fields of `config`; each value of a tuple, which must not be empty either."""

    def test_all(value):
        values = value if isinstance(value, tuple) else (value,)
        return bool(values) and all(map(test, values))

    for name in names:
        check(section, name, getattr(config, name), allowed, test_all)


def flatten(values: Any, key: str = '') -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; an empty mapping is a value."""
    if not isinstance(values, Mapping) or not values:
        return {key: values}
    parts = [flatten(part, f'{key}.{name}'.lstrip('.')) for name, part in values.items()]
    return {inner: value for part in parts for inner, value in part.items()}


def literal(text: str) -> Any:
    """The value that a text stands for: a Python literal, true, false, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {'true': True, 'false': False}.get(text.lower(), text)


def _typed(value: Any, kind: Any, key: str) -> Any:
    """`value` as type `kind`: integers pass as floats, lists and single values as tuples."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return from_values(kind, value, key + '.')
    if origin is tuple:
        kinds = typing.get_args(kind)
        if kinds[0] is str and isinstance(value, str):  # a,b is no literal, as 1,2 is
            value = [word.strip() for word in value.split(',')]
        parts = value if isinstance(value, (tuple, list)) else (value,)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(parts)
        if len(kinds) == len(parts):
            return tuple(_typed(v, k, key) for v, k in zip(parts, kinds))
    elif origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return _plain(value, key)
    elif kind is float and type(value) in (int, float) and abs(value) < 1e300:
        return float(value)  # neither infinite nor NaN, nor an integer that no float holds
    elif kind in (bool, int, str) and type(value) is kind:
        return value
    name = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise ValueError(f'{key}={value!r}: must be of type {name}')


def _plain(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{key}={options!r}: {error}') from error


def from_values(cls: type, values: Any, prefix: str) -> Any:
    """A dataclass from the values of its fields, nested; `prefix` is its place, for errors."""
    if not isinstance(values, Mapping):
        raise ValueError(f'{prefix.rstrip(".") or "experiment"}={values!r}: must be an object')
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in types:
            raise unknown('setting', prefix + name, name, types)
    return cls(**{n: _typed(v, types[n], prefix + n) for n, v in values.items()})
