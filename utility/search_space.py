"""Which settings a sweep tries: grids and random draws, written as text.

    optimizer.learning_rate=1e-3,3e-4       a grid: each of these values
    network.image_size=(128,128),(256,256)  commas within brackets belong to a value
    optimizer.learning_rate=log(1e-5,1e-2)  random: the logarithm is uniform
    loss.ohkm=uniform(0.3,1)                random: the number itself is uniform
    data.batch_size=int(4,16)               random: whole numbers, both ends included
    optimizer.name=choice(adam,adamw)       random: one of these, all equally likely

A draw depends on the seed, the number of the trial and the name of the setting alone: more trials
or settings leave those before as they were.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from config import UserError

_BRACKETS = {'(': ')', '[': ']', '{': '}'}
_LAW = re.compile(r'(\w+)\((.*)\)$', re.DOTALL)


def split_values(text: str) -> list[str]:
    """The parts between commas that are in no brackets and no quotes, without spaces around them.

    Raises:
        UserError: Brackets or quotes are not closed, or a part is empty.
    """
    parts, open_until = [''], []
    for sign in text:
        if open_until and sign == open_until[-1]:
            open_until.pop()
        elif sign in '\'"' and not (open_until and open_until[-1] in '\'"'):
            open_until.append(sign)
        elif sign in _BRACKETS and not (open_until and open_until[-1] in '\'"'):
            open_until.append(_BRACKETS[sign])
        elif sign == ',' and not open_until:
            parts.append('')
            continue
        parts[-1] += sign
    parts = [part.strip() for part in parts]
    if open_until:
        raise UserError(f'{text!r}: {open_until[-1]} is missing')
    if not all(parts):
        raise UserError(f'{text!r}: a value is empty')
    return parts


def parse_grid(text: str) -> tuple[str, list[str]]:
    """A setting and its values, of 'key=value,value'.

    Raises:
        UserError: The text is something else, or has a value twice.
    """
    key, values = _key_and_rest('--grid', text)
    found = split_values(values)
    if len(set(found)) < len(found):
        raise UserError(f'--grid {text}: a value is there twice')
    return key, found


def parse_random(text: str) -> tuple[str, Callable[[np.random.Generator], str]]:
    """A setting and how its value is drawn, of 'key=law(...)'.

    Raises:
        UserError: The text is something else, or the law cannot be drawn from.
    """
    key, rest = _key_and_rest('--random', text)
    law = _LAW.match(rest)
    if law is None or law.group(1) not in _LAWS:
        raise UserError(f'--random {text}: must look like key=LAW(...), LAW of {", ".join(_LAWS)}')
    name, arguments = law.groups()
    try:
        return key, _LAWS[name](*split_values(arguments))
    except (TypeError, ValueError) as error:
        wanted = 'VALUE,VALUE,...' if name == 'choice' else 'LOW,HIGH'
        reason = f'; {error}' if isinstance(error, UserError) else ''
        raise UserError(f'--random {text}: must be {name}({wanted}){reason}') from error


def _key_and_rest(flag: str, text: str) -> tuple[str, str]:
    key, equals, rest = (part.strip() for part in text.partition('='))
    if not (key and equals and rest):
        raise UserError(f'{flag} {text}: must look like key=...')
    return key, rest


def _ends(low: str, high: str, kind: type, least: float) -> tuple[Any, Any]:
    ends = kind(low), kind(high)
    if not least <= ends[0] < ends[1] < math.inf:
        positive = ', and positive' if least > 0 else ''
        raise UserError(f'{low} must be less than {high}{positive}')
    return ends


def _log(low: str, high: str):
    ends = np.log(_ends(low, high, float, np.nextafter(0, 1)))
    return lambda rng: f'{math.exp(rng.uniform(*ends)):.4g}'


def _uniform(low: str, high: str):
    ends = _ends(low, high, float, -math.inf)
    return lambda rng: f'{rng.uniform(*ends):.4g}'


def _int(low: str, high: str):
    ends = _ends(low, high, int, -math.inf)
    return lambda rng: str(rng.integers(*ends, endpoint=True))


def _choice(*values: str):
    return lambda rng: values[rng.integers(len(values))]


_LAWS = {'log': _log, 'uniform': _uniform, 'int': _int, 'choice': _choice}


def settings_of_runs(
    grids: Sequence[str], randoms: Sequence[str], trials: int, seed: int
) -> list[dict[str, str]]:
    """The settings of each run: all combinations of the grids for each random draw.

    Args:
        grids: As parse_grid.
        randoms: As parse_random.
        trials: Number of random draws; 1 without any.
        seed: Of the draws.

    Returns:
        Key -> value as text, of each run. More trials add runs at the end.

    Raises:
        UserError: A text is wrong, or a setting is there twice.
    """
    values, laws = list(map(parse_grid, grids)), list(map(parse_random, randoms))
    keys = [key for key, _ in (*values, *laws)]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f'{key} is there twice in --grid and --random')
    runs = []
    for trial in range(trials):
        drawn = {key: law(_generator(seed, trial, key)) for key, law in laws}
        for combination in itertools.product(*(found for _, found in values)):
            runs.append({**dict(zip(keys, combination)), **drawn})
    return runs


def _generator(seed: int, trial: int, key: str) -> np.random.Generator:
    return np.random.default_rng([seed, trial, zlib.crc32(key.encode())])


def in_a_line(settings: Mapping[str, str]) -> str:
    """Settings in a line."""
    return ' '.join(f'{key}={value}' for key, value in settings.items())
