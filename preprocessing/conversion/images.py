"""Checks encoded pictures, and turns those that can be used into RGB JPEGs.

A fine JPEG (three channels, upright) keeps its bytes. Gray, CMYK or rotated JPEGs and pictures of
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
import simplejpeg
import tensorflow as tf
from PIL import Image

from preprocessing.conversion.decoding import (
    FORMATS,
    JPEG_FORMATS,
    MAX_FILE_SIZE,
    SIXTEEN_BIT_MODES,
    BadImageError,
    check_depth,
    check_scans,
    check_size,
    orientation,
    read_file,
    reason_of,
    to_rgb,
    upright,
)
from preprocessing.files import keep, local_path

JPEG_QUALITY = 95
# Decoders that only check a JPEG give an eighth of each side: they read all of it all the same,
# find the same faults, and take half of the time.
_SHRUNK = 8


class DecodedImage(NamedTuple):
    """A picture fit for training.

    Attributes:
        jpeg: An upright RGB JPEG, perhaps with fewer pixels than the picture has.
        size: (height, width) of the picture, px.
        changes: What was wrong with the original: 'format', 'grayscale', 'cmyk', 'color_mode',
            'orientation', 'size'; empty where `jpeg` is the original.
        damage: What a decoder says of a JPEG that is used although parts of it are lost; ''.
    """

    jpeg: bytes
    size: tuple[int, int]
    changes: tuple[str, ...]
    damage: str = ''


def read_image(path: str) -> bytes:
    """Return the content of a file that should be a picture.

    Raises:
        BadImageError: There is no such file, or it cannot be read, or it is far too long.
    """
    local = local_path(path)
    if local is not None:
        return _read_local(path, local)
    try:
        with tf.io.gfile.GFile(path, 'rb') as file:
            if file.size() > MAX_FILE_SIZE:
                raise BadImageError(f'{file.size()} bytes; at most {MAX_FILE_SIZE} are read')
            return file.read()
    except tf.errors.NotFoundError:
        raise BadImageError(f'no file {path}') from None
    except tf.errors.OpError as error:
        raise BadImageError(f'cannot be read: {error.message}') from error


def _read_local(path: str, local: str) -> bytes:
    try:
        data = read_file(local)  # not by TensorFlow, which opens no name that is no UTF-8
    except BadImageError:
        raise
    except OSError as error:
        is_absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
        reason = f'no file {path}' if is_absent else f'cannot be read: {error.strerror}'
        raise BadImageError(reason) from error
    except ValueError:  # a name that no file can have
        raise BadImageError(f'no file {path!a}') from None
    keep([local])
    return data


def check_image(
    data: bytes, max_side: int | None = None, keeps_damaged: bool = False
) -> DecodedImage:
    """Decode a picture completely, and encode it anew where that is needed.

    Args:
        data: The content of a file that should be a picture.
        max_side: Of the JPEG, px: a larger picture is averaged down to it. None: any.
        keeps_damaged: Whether a JPEG is used of which a decoder says that parts are lost.

    Raises:
        BadImageError: It is empty, no picture, broken, truncated, too small or too large.
    """
    if not data:
        raise BadImageError('the file is empty')
    # Whatever the decoder stumbles over in foreign bytes, the picture is bad and the run goes on.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # hints at size and metadata; both are checked here
            return _check(data, max_side, keeps_damaged)
    except BadImageError:
        raise
    except Exception as error:
        raise BadImageError(reason_of(error)) from error


def _check(data: bytes, max_side: int | None, keeps_damaged: bool) -> DecodedImage:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        check_size(width, height)
        is_jpeg = image.format in JPEG_FORMATS
        damage = _damage(data, width * height) if is_jpeg else ''
        if not _changes(image, max_side):
            # Not decoded twice: the decoder of training refuses whatever this one does.
            try:
                _check_for_tensorflow(data, (height, width))
            except BadImageError:
                image.load()  # mostly tells what is wrong
                raise
            _refuse(damage, keeps_damaged)
            return DecodedImage(data, (height, width), (), damage)
        image.load()
        check_depth(image, data)
        _refuse(damage, keeps_damaged)
        changes = _changes(image, max_side)
        fine = to_rgb(upright(image))
    size, buffer = (fine.height, fine.width), io.BytesIO()
    if max_side is not None:
        fine = _at_most(fine, max_side)
    fine.save(buffer, 'JPEG', quality=JPEG_QUALITY, subsampling=0)
    return DecodedImage(buffer.getvalue(), size, changes, damage)


def _damage(jpeg: bytes, num_pixels: int) -> str:
    """Return what a decoder says of a JPEG of which it guessed a part; '' if it is whole.

    Other decoders paint what is lost gray, or noise, and go on.

    Raises:
        BadImageError: It has more scans than can be decoded in a reasonable time.
    """
    check_scans(jpeg, num_pixels)
    try:
        colors = simplejpeg.decode_jpeg_header(jpeg, strict=False)[2]
        target = colors if colors in ('Gray', 'CMYK') else 'CMYK' if colors == 'YCCK' else 'RGB'
        smallest = {'min_height': 1, 'min_width': 1, 'min_factor': _SHRUNK}
        simplejpeg.decode_jpeg(jpeg, target, strict=True, **smallest)
    except ValueError as error:
        return ' '.join(str(error).split())
    return ''


def _refuse(damage: str, keeps_damaged: bool) -> None:
    if damage and not keeps_damaged:
        raise BadImageError(f'broken picture: {damage}')


def _at_most(image: Image.Image, max_side: int) -> Image.Image:
    """Return the picture with its longer side averaged down to max_side, if that is longer."""
    longer = max(image.size)
    if longer <= max_side:
        return image
    width, height = (max(1, round(side * max_side / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def pixels(picture: DecodedImage) -> np.ndarray:
    """Return a picture in its size: uint8 [H, W, 3] RGB. What was stored smaller is enlarged."""
    with Image.open(io.BytesIO(picture.jpeg), formats=['JPEG']) as stored:
        size = picture.size[1], picture.size[0]
        return np.asarray(stored.resize(size, Image.Resampling.BILINEAR))


def _check_for_tensorflow(jpeg: bytes, size: tuple[int, int]) -> None:
    """Refuse damage that Pillow forgives and the decoder of training does not."""
    try:
        there = tuple(tf.io.extract_jpeg_shape(jpeg).numpy()[:2])
        tf.io.decode_jpeg(jpeg, channels=3, ratio=_SHRUNK)
    except tf.errors.InvalidArgumentError:
        raise BadImageError('broken picture: TensorFlow cannot decode it') from None
    if there != size:
        raise BadImageError(f'broken picture: its header says {size}, its pixels are {there}')


def _changes(image: Image.Image, max_side: int | None) -> tuple[str, ...]:
    """Return what keeps a picture from being used as it is."""
    modes = {'L': 'grayscale', '1': 'grayscale', 'LA': 'grayscale', 'CMYK': 'cmyk', 'RGB': None}
    found = (
        None if image.format in JPEG_FORMATS else 'format',
        modes.get(image.mode, 'grayscale' if image.mode in SIXTEEN_BIT_MODES else 'color_mode'),
        'orientation' if orientation(image) != 1 else None,
        'size' if max_side is not None and max(image.size) > max_side else None,
    )
    return tuple(change for change in found if change)
