"""Checks encoded pictures, and turns those that can be used into RGB JPEGs.

A fine JPEG (three channels, upright) keeps its bytes. Grey, CMYK or rotated JPEGs and pictures of
another format are encoded anew. Everything else is refused with a reason.

Orientation: a camera may store a picture lying and note in EXIF how to turn it. Browsers, viewers
and OpenCV obey the note, so the people who placed the points saw the upright picture, and points
are coordinates of it. TensorFlow ignores the note; therefore the pixels are turned here, the points
are left as they are, and the size is the one of the upright picture.
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from preprocessing.conversion.decoding import (
    FORMATS,
    MAX_FILE_SIZE,
    SIXTEEN_BIT_MODES,
    BadImageError,
    check_size,
    orientation,
    reason_of,
    to_rgb,
    upright,
)

JPEG_QUALITY = 95

_JPEG_FORMATS = ('JPEG', 'MPO')  # MPO: a JPEG followed by further ones; decoders read the first


class DecodedImage(NamedTuple):
    """A picture fit for training.

    Attributes:
        jpeg: An upright RGB JPEG, perhaps with fewer pixels than the picture has.
        size: (height, width) of the picture, px.
        changes: What was wrong with the original: 'format', 'grayscale', 'cmyk', 'color_mode',
            'orientation', 'size'; empty where `jpeg` is the original.
    """

    jpeg: bytes
    size: tuple[int, int]
    changes: tuple[str, ...]


def read_image(path: str) -> bytes:
    """The content of a file that should be a picture.

    Raises:
        BadImageError: There is no such file, or it cannot be read, or it is far too long.
    """
    try:
        with tf.io.gfile.GFile(path, 'rb') as file:
            if file.size() > MAX_FILE_SIZE:
                raise BadImageError(f'{file.size()} bytes; at most {MAX_FILE_SIZE} are read')
            return file.read()
    except tf.errors.NotFoundError:
        raise BadImageError(f'no file {path}') from None
    except tf.errors.OpError as error:
        raise BadImageError(f'cannot be read: {error.message}') from error


def check_image(data: bytes, max_side: int | None = None) -> DecodedImage:
    """Decodes a picture completely, and encodes it anew where that is needed.

    Args:
        data: The content of a file that should be a picture.
        max_side: Of the JPEG, px: a larger picture is averaged down to it. None: any.

    Raises:
        BadImageError: It is empty, no picture, broken, truncated, too small or too large.
    """
    if not data:
        raise BadImageError('the file is empty')
    # Whatever the decoder stumbles over in foreign bytes, the picture is bad and the run goes on.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # hints at size and metadata; both are checked here
            return _check(data, max_side)
    except BadImageError:
        raise
    except Exception as error:
        raise BadImageError(reason_of(error)) from error


def _check(data: bytes, max_side: int | None) -> DecodedImage:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        check_size(width, height)
        if not _changes(image, max_side):
            # Not decoded twice: the decoder of training refuses whatever this one does.
            try:
                _check_for_tensorflow(data, (height, width))
            except BadImageError:
                image.load()  # mostly tells what is wrong
                raise
            return DecodedImage(data, (height, width), ())
        image.load()
        changes = _changes(image, max_side)
        fine = to_rgb(upright(image))
    size, buffer = (fine.height, fine.width), io.BytesIO()
    if max_side is not None:
        fine = _at_most(fine, max_side)
    fine.save(buffer, 'JPEG', quality=JPEG_QUALITY, subsampling=0)
    return DecodedImage(buffer.getvalue(), size, changes)


def _at_most(image: Image.Image, max_side: int) -> Image.Image:
    """The picture with its longer side averaged down to max_side, if that is longer."""
    longer = max(image.size)
    if longer <= max_side:
        return image
    width, height = (max(1, round(side * max_side / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def pixels(picture: DecodedImage) -> np.ndarray:
    """A picture in its size: uint8 [H, W, 3] RGB. What was stored smaller is enlarged."""
    with Image.open(io.BytesIO(picture.jpeg), formats=['JPEG']) as stored:
        size = picture.size[1], picture.size[0]
        return np.asarray(stored.resize(size, Image.Resampling.BILINEAR))


def _check_for_tensorflow(jpeg: bytes, size: tuple[int, int]) -> None:
    """The decoder of training refuses some damage that Pillow forgives."""
    try:
        shape = tf.io.decode_jpeg(jpeg, channels=3).shape
    except tf.errors.InvalidArgumentError:
        raise BadImageError('broken picture: TensorFlow cannot decode it') from None
    if tuple(shape[:2]) != size:
        raise BadImageError(f'broken picture: its header says {size}, its pixels are {shape[:2]}')


def _changes(image: Image.Image, max_side: int | None) -> tuple[str, ...]:
    """What keeps a picture from being used as it is."""
    modes = {'L': 'grayscale', '1': 'grayscale', 'LA': 'grayscale', 'CMYK': 'cmyk', 'RGB': None}
    found = (
        None if image.format in _JPEG_FORMATS else 'format',
        modes.get(image.mode, 'grayscale' if image.mode in SIXTEEN_BIT_MODES else 'color_mode'),
        'orientation' if orientation(image) != 1 else None,
        'size' if max_side is not None and max(image.size) > max_side else None,
    )
    return tuple(change for change in found if change)
