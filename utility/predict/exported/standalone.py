"""Points of images, from the network in this folder.

    python predict.py --category=CATEGORY IMAGE...

prints one line of JSON for each image. `python predict.py -` reads lines CATEGORY<tab>IMAGE from
standard input, or IMAGE with --category. Of a network that tells the category, by model.json's
"tells", it may be left out.
With the entry "radii" of model.json the lines say how far off each point may be, in px.
In a program of your own:

    from predict import load
    points = load().predict('shirt.jpg', 'CATEGORY')
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import numpy as np

from config import UserError
from preprocessing.conversion.decoding import BadImageError, check_size, decode, read_file
from utility.predict.exported.radii import are_radii, radii_of

DESCRIPTION_FILE = 'model.json'
FORMAT_VERSION = 1
_MAX_SIDE = 100_000  # px
_TOLD = ('category_probabilities', 'presence')
_KEYS = ('format', 'files', 'keypoints', 'categories', 'image_size')


def read_description(folder: str) -> dict:
    """Return the content of a folder's model.json.

    Raises:
        UserError: There is none, it is broken, or of a later version, or a file is missing.
    """
    path = os.path.join(folder, DESCRIPTION_FILE)
    try:
        description = json.loads(read_file(path).decode())
        fault = _fault_of(description)
    except OSError as error:
        raise UserError(
            f'{folder!r} is no exported network: no {DESCRIPTION_FILE} in it'
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken: {error}') from error
    if fault:
        raise UserError(f'{path} is broken: {fault}')
    if description.get('version') != FORMAT_VERSION:
        raise UserError(f'{path} is of version {description.get("version")}, not {FORMAT_VERSION}')
    for name in description['files']:
        if not os.path.exists(os.path.join(folder, name)):
            raise UserError(f'{folder!r} is no whole export: {name} is missing')
    return description


def _fault_of(description) -> str | None:
    """Return what of a description no export writes; None where it may be of one."""
    if not isinstance(description, dict):
        return 'it is no object'
    missing = [key for key in _KEYS if key not in description]
    if missing:
        return f'it has no {missing[0]!r}'
    names, categories = description['keypoints'], description['categories']
    size, files = description['image_size'], description['files']
    tells = description.get('tells', [])
    is_right = {
        'format': isinstance(description['format'], str),
        'files': _are_texts(files) and all(map(_is_inside, files)),
        'keypoints': _are_texts(names),
        'categories': isinstance(categories, dict)
        and len(categories) > 0
        and all(_are_texts(own) and set(own) <= set(names) for own in categories.values()),
        'tells': tells == [] or (_are_texts(tells) and set(tells) <= set(_TOLD)),
        'image_size': isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and 0 < side <= _MAX_SIDE for side in size),
    }
    wrong = [key for key, right in is_right.items() if not right]
    if not wrong and 'radii' in description and not are_radii(description['radii'], categories):
        wrong = ['radii']
    return f'its {wrong[0]!r} is not what an export writes' if wrong else None


def _are_texts(value) -> bool:
    """Return whether a value is a list of different texts, at least one."""
    is_list = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
    return is_list and 0 < len(value) == len(set(value))


def _is_inside(name: str) -> bool:
    """Return whether the name of a file leads out of no folder."""
    return not os.path.isabs(name) and '..' not in name.split('/') and '\0' not in name


def pixels_of(image) -> np.ndarray:
    """Return the pixels of a path, bytes or an array, checked: uint8 [H, W, 3] RGB."""
    if isinstance(image, (str, os.PathLike)):
        try:
            return decode(read_file(image))
        except OSError as error:
            raise UserError(f'{os.fspath(image)}: {error.strerror or error}') from error
        except BadImageError as error:
            raise UserError(f'{os.fspath(image)}: {error}') from error
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode(bytes(image))
    if not isinstance(image, np.ndarray):
        allowed = 'a path, bytes or a NumPy array'
        raise UserError(f'an image of type {type(image).__name__}: must be {allowed}')
    return _rgb_of(image)


def _rgb_of(pixels: np.ndarray) -> np.ndarray:
    """Return gray, RGB or RGB with alpha as RGB; white is behind what is transparent."""
    if pixels.dtype != np.uint8:
        raise UserError(f'an image of dtype {pixels.dtype}: must be uint8, RGB in 0..255')
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        allowed = '[H, W, 3] RGB, [H, W] gray or [H, W, 4] with alpha'
        raise UserError(f'an image of shape {list(pixels.shape)}: must be {allowed}')
    check_size(pixels.shape[1], pixels.shape[0])
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint32)
        mixed = pixels[:, :, :3] * alpha + 255 * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


class ExportedModel:
    """A network that was opened.

    Args:
        folder: Where it lies.
        start: What opens it.
    """

    def __init__(self, folder, start):
        self.description = read_description(folder)
        try:
            self._run = start(folder, self.description)
        except ImportError as error:
            install = self.description.get('install', 'the runtime of the format')
            raise UserError(f'{error.name} is missing: pip install {install}') from error
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            raise UserError(f'{folder!r} cannot be opened, it is damaged: {reason}') from error

    @property
    def tells(self):
        """Names of what the network tells beside points, see describe."""
        return tuple(self.description.get('tells', ()))

    def category(self, name=None):
        """Return the category's name; where there is one only, it need not be given. None where it
        is not given and the network tells it.
        """
        known = list(self.description['categories'])
        if name is None and len(known) == 1:
            return known[0]
        if name is None and 'category_probabilities' in self.tells:
            return None
        if name not in known:
            given = 'category is missing' if name is None else f'unknown category {name!r}'
            raise UserError(f'{given}; there are: {", ".join(known)}')
        return name

    def predict_pixels(self, pixels, category):
        """Return keypoints [K, 2], scores [K] and a dict of what the network tells beside, arrays,
        of uint8 [H, W, 3]; K counts model.json's keypoints. The category may be None if it is told.
        """
        names = list(self.description['categories'])
        number = -1 if category is None else names.index(category)
        keypoints, scores, *told = self._run(pixels, number)
        return keypoints, scores, dict(zip(self.tells, told))

    def describe(self, image, category=None):
        """Return 'category' and 'points', as of predict; and of a network that tells them
        'category_probabilities', category -> probability, and 'presence', the name of each point ->
        probabilities that it is absent, occluded, visible. Where model.json has radii, also
        'radii', the name of each point -> px about it that hold its true place in a share
        model.json's radii.level of the cases, or None.
        """
        category = self.category(category)
        keypoints, scores, told = self.predict_pixels(pixels_of(image), category)
        names = list(self.description['categories'])
        shares = told.get('category_probabilities')
        if category is None:
            category = names[int(np.argmax(shares))]
        own = self.description['categories'][category]
        rows = zip(self.description['keypoints'], keypoints.tolist(), scores.tolist())
        points = {name: (*point, score) for name, point, score in rows if name in own}
        answer = {'category': category, 'points': points}
        if shares is not None:
            answer['category_probabilities'] = dict(zip(names, shares.tolist()))
        if 'radii' in self.description:
            answer['radii'] = radii_of(self.description['radii'], category, points)
        if 'presence' in told:
            named = zip(self.description['keypoints'], told['presence'].tolist())
            answer['presence'] = {name: shares for name, shares in named if name in own}
        return answer

    def predict(self, image, category=None):
        """Return name -> (x, y, score), x and y in px of the image, 0 at its outer edge."""
        return self.describe(image, category)['points']


def load(folder=None):
    """Open the network of a folder, of the one that this file lies in by default."""
    return ExportedModel(folder or os.path.dirname(os.path.abspath(__file__)), start)  # noqa: F821


def main():
    """Predict the images that the command line names."""
    parser = argparse.ArgumentParser(description='Points of images, as lines of JSON.')
    parser.add_argument('--category', help='What the images show.')
    parser.add_argument('images', nargs='+', help="Paths; or '-': CATEGORY<tab>PATH on stdin.")
    values = parser.parse_args()
    try:
        model = load()
        listed = [(values.category, path) for path in values.images]
        if values.images == ['-']:
            # As the names of files are encoded, whatever the terminal shows.
            lines = map(os.fsdecode, sys.stdin.buffer)
            fields = (line.rstrip('\n').split('\t', 1) for line in lines)
            listed = ((parts[0] if parts[1:] else values.category, parts[-1]) for parts in fields)
        for category, path in listed:
            begin = time.perf_counter()
            answer = {'image': path, **model.describe(path, category)}
            seconds = round(time.perf_counter() - begin, 6)
            print(json.dumps({**answer, 'seconds': seconds}), flush=True)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe has left, as `head` does. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(1)
