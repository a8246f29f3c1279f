"""Videos: what is written is read again, and what cannot be read is told in one sentence."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from utility.visualization import video


def _frames(count=6, size=(48, 64)):
    """A white square that moves to the right, 4 px a frame."""
    for number in range(count):
        frame = np.zeros((*size, 3), np.uint8)
        frame[16:32, 4 * number : 4 * number + 16] = (200, 40, 40)
        yield frame


def _write_avi(path, count=6):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for frame in _frames(count):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def test_frames_are_read_as_they_were_written(tmp_path):
    path = str(tmp_path / 'new' / 'a.mp4')
    video.write_video(path, _frames(), 12.5)
    found = video.open_video(path)
    assert (found.rate, found.size, found.num_frames) == (12.5, (48, 64), 6)
    for frame, expected in zip(found.frames(), _frames()):
        assert np.abs(frame.astype(int) - expected).mean() < 6


def test_another_container_is_read(tmp_path):
    _write_avi(tmp_path / 'a.avi')
    found = video.open_video(str(tmp_path / 'a.avi'))
    assert (found.rate, found.size, len(list(found.frames()))) == (10, (48, 64), 6)


@pytest.mark.parametrize('size', [(47, 63), (8, 8)])
def test_odd_and_small_sizes(size, tmp_path):
    path = str(tmp_path / 'a.mp4')
    video.write_video(path, (np.full((*size, 3), 90, np.uint8) for _ in range(3)), 25)
    assert [frame.shape[:2] for frame in video.open_video(path).frames()] == [
        (size[0] // 2 * 2, size[1] // 2 * 2)
    ] * 3


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'a.mp4: no such file'),
        (b'', 'a.mp4: the file is empty'),
        (b'no video' * 100, 'a.mp4: no frame of it can be read; it is damaged, or no video'),
        (b'ffconcat version 1.0\nfile sound.mp4\n', 'a.mp4: no frame of it can be read'),
        (b'#EXTM3U\n#EXTINF:5,\nsound.mp4\n#EXT-X-ENDLIST\n', 'a.mp4: no frame of it can be read'),
    ],
    ids=['missing', 'empty', 'foreign', 'list', 'playlist'],
)
def test_what_is_no_video_is_told(content, message, tmp_path, capfd):
    video.write_video(str(tmp_path / 'sound.mp4'), _frames(2), 5)
    path = tmp_path / 'a.mp4'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        video.open_video(str(path))
    assert capfd.readouterr().err == ''


def test_a_video_that_was_cut_off(tmp_path, caplog, capfd):
    path = tmp_path / 'a.mp4'
    video.write_video(str(path), _frames(30), 25)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # the table of frames is at its end
    with pytest.raises(ValueError, match='no frame of it can be read'):
        video.open_video(str(path))
    _write_avi(tmp_path / 'b.avi', 30)
    whole = (tmp_path / 'b.avi').read_bytes()
    (tmp_path / 'b.avi').write_bytes(whole[: len(whole) * 2 // 3])
    count = len(list(video.open_video(str(tmp_path / 'b.avi')).frames()))
    assert 0 < count < 30
    assert f'b.avi: only {count} of ' in caplog.text
    assert capfd.readouterr().err == ''


def test_a_video_is_whole_or_not_there(tmp_path):
    def broken():
        yield from _frames(3)
        raise ValueError('stop')

    with pytest.raises(ValueError, match='stop'):
        video.write_video(str(tmp_path / 'a.mp4'), broken(), 25)
    assert list(tmp_path.iterdir()) == []
