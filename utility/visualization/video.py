"""Video files: their frames one after the other, and frames as a video file. OpenCV only."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
from absl import logging

from config import UserError
from preprocessing.conversion import decoding
from preprocessing.files import read_bytes, write_bytes
from utility.command_line import environment

environment.quiet_ffmpeg()  # which says what it stumbles over beside our one sentence

SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm')
OUTPUT_SUFFIX = '.mp4'
_CODEC = 'mp4v'  # MPEG-4 part 2: what OpenCV writes everywhere by itself
# What files of these suffixes begin with: MP4 and MOV; AVI; Matroska and WebM; MPEG. FFmpeg would
# also take a text that lists other files, and play these.
_CONTAINERS = re.compile(
    rb'....(ftyp|moov|mdat|free|skip|wide|pnot)|RIFF....AVI |\x1aE\xdf\xa3|'
    rb'\x00\x00\x01[\xb3\xba]|G.{187}G',
    re.DOTALL,
)
_HEADER_SIZE = 256  # bytes
_NO_FRAME = 'no frame of it can be read; it is damaged, or no video'
_USUAL_RATE, _HIGHEST_RATE = 25.0, 1000.0  # frames per second; what a file tells may be nonsense


@dataclasses.dataclass(frozen=True)
class Video:
    """A video that can be read.

    Attributes:
        path: Of the file.
        rate: Frames per second.
        size: (height, width) of an upright frame, px.
        num_frames: That the file tells of; 0 if it does not.
    """

    path: str
    rate: float
    size: tuple[int, int]
    num_frames: int

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 [H, W, 3] RGB; what cannot be read at the end is logged."""
        import cv2

        number = 0
        with _opened(self.path) as capture:
            while True:
                is_there, frame = capture.read()
                if not is_there:
                    break
                number += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if number < self.num_frames:
            logging.warning(
                '%s: only %d of %d frames can be read', self.path, number, self.num_frames
            )


def open_video(path: str) -> Video:
    """Look at a video file.

    Raises:
        UserError: There is none, or no frame of it can be read.
    """
    if not os.path.isfile(path):
        is_there = os.path.lexists(path)
        raise UserError(f'{path}: {"is no regular file" if is_there else "no such file"}')
    if not os.path.getsize(path):
        raise UserError(f'{path}: the file is empty')
    import cv2

    with pathlib.Path(path).open('rb') as file:
        if not _CONTAINERS.match(file.read(_HEADER_SIZE)):
            raise UserError(f'{path}: {_NO_FRAME}')
    with _opened(path) as capture:
        is_there, frame = capture.read()
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if not is_there:
        raise UserError(f'{path}: {_NO_FRAME}')
    try:
        decoding.check_size(frame.shape[1], frame.shape[0])
    except decoding.BadImageError as error:
        raise UserError(f'{path}: frames of {error}') from error
    if not 0 < rate <= _HIGHEST_RATE:
        logging.warning('%s tells no frame rate; taken are %g a second', path, _USUAL_RATE)
        rate = _USUAL_RATE
    return Video(path, rate, frame.shape[:2], max(0, int(count)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator:
    import cv2

    cv2.setLogLevel(0)
    capture = cv2.VideoCapture(path)
    try:
        yield capture
    finally:
        capture.release()


def write_video(path: str, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write frames as a video: it is complete or not there.

    Args:
        path: Local, or anything tf.io.gfile opens; must end in .mp4.
        frames: uint8 [H, W, 3] RGB, all of one size; at least one. An odd side becomes a pixel
            shorter: the codec has even ones.
        rate: Of them, per second.

    Raises:
        UserError: OpenCV cannot write such a video.
    """
    import cv2

    assert path.endswith(OUTPUT_SUFFIX), path
    writer = None
    with tempfile.TemporaryDirectory() as folder:
        partial = os.path.join(folder, f'video{OUTPUT_SUFFIX}')
        try:
            for frame in frames:
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = cv2.VideoWriter(partial, cv2.VideoWriter_fourcc(*_CODEC), rate, size)
                    if not writer.isOpened():
                        raise UserError(f'{path}: OpenCV cannot write videos of {size} px')
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            if writer is not None:
                writer.release()
        write_bytes(path, read_bytes(partial))
