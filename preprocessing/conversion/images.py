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
from PIL import Image, ImageOps

from config import UserError

MAX_FILE_SIZE = 64 << 20  # bytes
MIN_SIDE = 8  # px; nothing can be recognised on less
MAX_PIXELS = 50_000_000  # a larger one needs more than 0.5 GB as float32 while it is warped
JPEG_QUALITY = 95

_FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'TIFF', 'WEBP')
_JPEG_FORMATS = ('JPEG', 'MPO')  # MPO: a JPEG followed by further ones; decoders read the first
_ORIENTATION_TAG = 0x0112
_SIXTEEN_BIT_MODES = ('I;16', 'I;16L', 'I;16B', 'I;16N', 'I')
_USABLE_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'LAB', 'HSV')


class BadImageError(UserError):
    """A picture that cannot be used; the message is the reason."""


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
    except Image.UnidentifiedImageError:
        raise BadImageError(f'not a picture in one of the formats {", ".join(_FORMATS)}') from None
    except Exception as error:
        text = ' '.join(str(error).split())
        raise BadImageError(f'broken picture: {text or type(error).__name__}') from error


def _check(data: bytes, max_side: int | None) -> DecodedImage:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
            raise BadImageError(
                f'{width}x{height} px; a side must be at least {MIN_SIDE},'
                f' the area at most {MAX_PIXELS}'
            )
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
        upright = _to_rgb(_turned(image))
    size, buffer = (upright.height, upright.width), io.BytesIO()
    if max_side is not None:
        upright = _at_most(upright, max_side)
    upright.save(buffer, 'JPEG', quality=JPEG_QUALITY, subsampling=0)
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
        modes.get(image.mode, 'grayscale' if image.mode in _SIXTEEN_BIT_MODES else 'color_mode'),
        'orientation' if _orientation(image) != 1 else None,
        'size' if max_side is not None and max(image.size) > max_side else None,
    )
    return tuple(change for change in found if change)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 (upright) where EXIF is missing, broken or says nonsense."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken metadata does not make the pixels worse
        return 1
    return value if value in range(1, 9) else 1


def _turned(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any usable mode as RGB; transparent parts become white, as on a shop's page."""
    if image.mode in _SIXTEEN_BIT_MODES:
        image = image.convert('I').point(lambda value: value * (1 / 256)).convert('L')
    elif image.mode not in _USABLE_MODES:
        raise BadImageError(f'unusable colour mode {image.mode}')
    if image.has_transparency_data:
        rgba = image.convert('RGBA')
        white = Image.new('RGBA', rgba.size, 'white')
        image = Image.alpha_composite(white, rgba)
    return image.convert('RGB')
