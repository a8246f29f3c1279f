"""From a file's bytes to upright RGB pixels, with one sentence for what cannot be read.

Imports Pillow, NumPy and nothing slow: exported folders carry these lines along.
"""

from __future__ import annotations

import io
import os
import re
import stat
import warnings

import numpy as np
from PIL import Image, ImageOps

from config import UserError

MAX_FILE_SIZE = 64 << 20  # bytes
MIN_SIDE = 8  # px; nothing can be recognized on less
MAX_PIXELS = 50_000_000  # a larger one needs more than 0.5 GB as float32 while it is warped

FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'TIFF', 'WEBP')
# Of the files in a folder that are taken for pictures.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')
# A progressive JPEG of a camera or an editor has some ten scans; decoding takes as long for each.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 1_000_000_000  # scans times pixels: some ten seconds
_SCAN, _END = 0xDA, 0xD9  # markers
# A marker between the data of a scan; what is stuffed, filled or starts anew is none.
_NEXT_MARKER = re.compile(rb'\xff([^\x00\xd0-\xd7\xff])', re.DOTALL)
JPEG_FORMATS = ('JPEG', 'MPO')  # MPO: a JPEG followed by further ones; decoders read the first
_ORIENTATION_TAG = 0x0112
_TWELVE_BITS = 4095
_PNG_DEPTH = 24  # place of the number of bits in a PNG
SIXTEEN_BIT_MODES = ('I;16', 'I;16L', 'I;16B', 'I;16N', 'I')
_USABLE_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'LAB', 'HSV')


class BadImageError(UserError):
    """A picture that cannot be used; the message is the reason."""


def read_file(path) -> bytes:
    """Return the content of a local file that should be a picture.

    Raises:
        BadImageError: It is no regular file, or far too long.
        OSError: It cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # to read a pipe would wait for ever
        raise BadImageError('is no regular file')
    if status.st_size > MAX_FILE_SIZE:
        raise BadImageError(f'{status.st_size} bytes; at most {MAX_FILE_SIZE} are read')
    with open(path, 'rb') as file:  # noqa: PTH123
        return file.read()


def named_pictures(paths) -> list[str]:
    """Return those paths that name a picture, sorted: not of directories and hidden files, as which
    systems keep notes on pictures.
    """
    return sorted(
        path
        for path in paths
        if path.lower().endswith(SUFFIXES)
        and os.path.basename(path)[:1] != '.'
        and not os.path.isdir(path)
    )


def check_size(width: int, height: int) -> None:
    """Refuse a picture that is too small to show anything, or too large to hold."""
    if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
        raise BadImageError(
            f'{width}x{height} px; a side must be at least {MIN_SIDE},'
            f' the area at most {MAX_PIXELS}'
        )


def decode(data: bytes) -> np.ndarray:
    """Return upright RGB pixels, uint8 [H, W, 3], of the content of a file.

    Raises:
        BadImageError: It is empty, no picture, broken, truncated, too small or too large.
    """
    if not data:
        raise BadImageError('the file is empty')
    if len(data) > MAX_FILE_SIZE:
        raise BadImageError(f'{len(data)} bytes; at most {MAX_FILE_SIZE} are read')
    # Whatever the decoder stumbles over in foreign bytes, the picture is bad and the run goes on.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # hints at size and metadata; both are checked here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size(*image.size)
                if image.format in JPEG_FORMATS:
                    check_scans(data, image.width * image.height)
                image.load()
                check_depth(image, data)
                return np.asarray(to_rgb(upright(image)))
    except BadImageError:
        raise
    except Exception as error:
        raise BadImageError(reason_of(error)) from error


def check_scans(jpeg: bytes, num_pixels: int) -> None:
    """Refuse a JPEG of more scans than can be decoded in a reasonable time."""
    scans = _num_scans(jpeg)
    if scans > MAX_SCANS or scans * num_pixels > MAX_SCANNED_PIXELS:
        raise BadImageError(
            f'{num_pixels} px in {scans} scans; at most {MAX_SCANS} scans, and '
            f'{MAX_SCANNED_PIXELS} px in all of them, are decoded'
        )


def _num_scans(jpeg: bytes) -> int:
    """Return how many scans a JPEG has up to its end, or to where it is no JPEG any more."""
    scans, position = 0, 2
    while scans <= MAX_SCANS and (found := _NEXT_MARKER.search(jpeg, position)):
        marker, position = found.group(1)[0], found.end()
        if marker == _END:
            break
        scans += marker == _SCAN
        position += int.from_bytes(jpeg[position : position + 2], 'big')
    return scans


def check_depth(image: Image.Image, data: bytes) -> None:
    """Refuse values of 12 bits where there is room for 16, which would come out near black.

    Args:
        image: Loaded.
    """
    most = _TWELVE_BITS if image.mode in SIXTEEN_BIT_MODES else _TWELVE_BITS >> 8
    has_sixteen = image.mode in SIXTEEN_BIT_MODES or (
        image.format == 'PNG' and data[_PNG_DEPTH : _PNG_DEPTH + 1] == b'\x10'
    )
    # Of a picture in color without its transparency, which may be opaque.
    values = image.convert('RGB') if has_sixteen and len(image.getbands()) > 1 else image
    if has_sixteen and np.asarray(values).max() <= most:
        raise BadImageError(
            f'16 bits a value, but none above {_TWELVE_BITS}: near black; scale them to 16 bits'
        )


def reason_of(error: Exception) -> str:
    """Return what an error of the decoder means."""
    if isinstance(error, Image.UnidentifiedImageError):
        return f'not a picture in one of the formats {", ".join(FORMATS)}'
    text = ' '.join(str(error).split())
    return f'broken picture: {text or type(error).__name__}'


def orientation(image: Image.Image) -> int:
    """Return EXIF orientation 1 to 8; 1 (upright) where EXIF is missing or broken."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken metadata does not make the pixels worse
        return 1
    return value if value in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """Return the picture turned as its EXIF says."""
    return ImageOps.exif_transpose(image) if orientation(image) != 1 else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return any usable mode as RGB; transparent parts become white, as on a shop's page."""
    if image.mode in SIXTEEN_BIT_MODES:
        image = image.convert('I').point(lambda value: value * (1 / 256)).convert('L')
    elif image.mode not in _USABLE_MODES:
        raise BadImageError(f'unusable color mode {image.mode}')
    if image.has_transparency_data:
        rgba = image.convert('RGBA')
        white = Image.new('RGBA', rgba.size, 'white')
        image = Image.alpha_composite(white, rgba)
    return image.convert('RGB')
