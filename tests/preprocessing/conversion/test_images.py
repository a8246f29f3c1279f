"""Pictures: fine ones keep their bytes, usable ones become RGB JPEGs, the rest is refused."""

import io
import os
import pathlib
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from preprocessing.conversion import decoding, images

HEIGHT, WIDTH = 24, 40


@pytest.fixture(scope='module')
def pixels():
    """uint8 [24, 40, 3]; smooth, so that JPEG keeps it, and different at every corner."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 5, y * 9, (x + y) * 3], axis=-1).astype(np.uint8)


def encode(image, file_format='JPEG', **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(jpeg):
    return tf.io.decode_jpeg(jpeg, channels=3).numpy().astype(int)


def difference(jpeg, expected):
    return np.abs(decode(jpeg) - expected.astype(int)).mean()


@pytest.mark.parametrize(
    'options',
    [{}, {'progressive': True}, {'subsampling': 0}, {'keep_rgb': True}, {'comment': b'c'}],
)
def test_a_fine_jpeg_keeps_its_bytes(pixels, options):
    data = encode(Image.fromarray(pixels), **options)
    assert images.check_image(data) == (data, (HEIGHT, WIDTH), (), '')


def test_other_colors_become_rgb(pixels):
    image = Image.fromarray(pixels)
    for mode, change in [('L', 'grayscale'), ('CMYK', 'cmyk')]:
        picture = images.check_image(encode(image.convert(mode), quality=95))
        assert picture.changes == (change,)
        assert difference(picture.jpeg, np.asarray(image.convert(mode).convert('RGB'))) < 3
        with Image.open(io.BytesIO(picture.jpeg)) as jpeg:
            assert (jpeg.format, jpeg.mode) == ('JPEG', 'RGB')


def test_a_large_picture_is_averaged_down_and_keeps_the_size_that_its_points_are_in(pixels):
    large = np.kron(pixels, np.ones((5, 5, 1), np.uint8))
    data = encode(Image.fromarray(large), quality=100)
    assert images.check_image(data, max_side=5 * WIDTH).jpeg == data
    picture = images.check_image(data, max_side=WIDTH)
    assert (picture.size, picture.changes) == ((5 * HEIGHT, 5 * WIDTH), ('size',))
    assert difference(picture.jpeg, pixels) < 2
    enlarged = images.pixels(picture)
    assert enlarged.shape == large.shape and np.abs(enlarged - large.astype(int)).mean() < 6
    assert decode(images.check_image(data, max_side=30).jpeg).shape == (18, 30, 3)
    other = images.check_image(encode(Image.fromarray(pixels), 'PNG'), max_side=WIDTH)
    assert other.changes == ('format',) and difference(other.jpeg, pixels) < 3


def test_the_pixels_of_a_picture_that_is_stored_as_it_is_are_those_of_its_jpeg(pixels):
    data = encode(Image.fromarray(pixels))
    stored = images.pixels(images.check_image(data))
    assert stored.dtype == np.uint8 and np.abs(stored - decode(data)).max() <= 3


@pytest.mark.parametrize('file_format', ['PNG', 'BMP', 'TIFF'])
def test_another_format_becomes_a_jpeg(pixels, file_format):
    picture = images.check_image(encode(Image.fromarray(pixels), file_format))
    assert picture.changes == ('format',)
    assert picture.size == (HEIGHT, WIDTH)
    assert difference(picture.jpeg, pixels) < 3


def test_sixteen_bits_keep_their_brightness():
    ramp = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    picture = images.check_image(encode(Image.fromarray(ramp), 'PNG'))
    assert picture.changes == ('format', 'grayscale')
    assert difference(picture.jpeg, np.repeat(ramp[..., np.newaxis] // 256, 3, axis=-1)) < 3


def test_transparent_parts_become_white(pixels):
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[:, WIDTH // 2 :] = 255
    data = encode(Image.fromarray(np.concatenate([pixels, alpha], axis=-1)), 'PNG')
    expected = np.where(alpha > 0, pixels, 255)
    inner = np.abs(np.arange(WIDTH) - WIDTH // 2) > 8  # the edge rings
    got = decode(images.check_image(data).jpeg)
    assert np.abs(got - expected)[:, inner].mean() < 3


@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_picture_is_turned_upright_as_opencv_does(pixels, orientation, tmp_path):
    cv2 = pytest.importorskip('cv2')
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / 'x.jpg'
    path.write_bytes(encode(Image.fromarray(pixels), quality=95, subsampling=0, exif=exif))
    picture = images.check_image(path.read_bytes())
    upright = cv2.imread(str(path))[..., ::-1]
    assert picture.size == upright.shape[:2]
    assert difference(picture.jpeg, upright) < 2
    assert picture.changes == (() if orientation == 1 else ('orientation',))
    with Image.open(io.BytesIO(picture.jpeg)) as image:
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize('exif', [b'Exif\x00\x00MM\x00*\xff\xff\xff\xff', b'Exif\x00\x00nonsense'])
def test_broken_exif_does_not_matter(pixels, exif):
    data = encode(Image.fromarray(pixels), exif=exif)
    assert images.check_image(data).jpeg == data


def test_an_orientation_that_does_not_exist_does_not_matter(pixels):
    exif = Image.Exif()
    exif[0x0112] = 77
    data = encode(Image.fromarray(pixels), exif=exif)
    assert images.check_image(data).jpeg == data


@pytest.mark.parametrize('progressive', [False, True])
def test_no_truncated_jpeg_passes(pixels, progressive):
    data = encode(Image.fromarray(pixels), quality=90, progressive=progressive)
    for length in range(1, len(data), 7):
        with pytest.raises(images.BadImageError):
            images.check_image(data[:length])
    with pytest.raises(images.BadImageError, match='broken picture'):
        images.check_image(data[:-2])


def test_what_passes_can_be_decoded_for_training(pixels):
    data = encode(Image.fromarray(pixels), quality=90)
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(2, len(data))] = rng.integers(256)
        try:
            picture = images.check_image(bytes(damaged))
        except images.BadImageError:
            continue
        passed += 1
        assert decode(picture.jpeg).shape[:2] == picture.size
    assert 0 < passed < 200


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'empty'),
        (b'<html>not found</html>', 'not a picture'),
        (b'\xff\xd8\xff', 'not a picture'),
        (b'\x00' * 5000, 'not a picture'),
    ],
)
def test_what_is_no_picture_is_told(data, reason):
    with pytest.raises(images.BadImageError, match=reason):
        images.check_image(data)


@pytest.mark.parametrize('size', [(1, 1), (7, 3000)])
def test_too_small_pictures_are_refused(size):
    with pytest.raises(images.BadImageError, match=f'{size[0]}x{size[1]} px'):
        images.check_image(encode(Image.new('RGB', size)))


@pytest.mark.parametrize('side', [8000, 30000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side, monkeypatch):
    data = bytearray(encode(Image.new('1', (16, 16)), 'PNG'))
    data[16:24] = side.to_bytes(4, 'big') * 2  # width and height in the header chunk
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, 'big')
    monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('decoded'))
    with pytest.raises(images.BadImageError, match=f'{side}x{side} px|decompression bomb'):
        images.check_image(bytes(data))


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(images.BadImageError, match=r'no file .*x\.jpg'):
        images.read_image(str(tmp_path / 'x.jpg'))
    with pytest.raises(images.BadImageError, match='is no regular file'):
        images.read_image(str(tmp_path))
    (tmp_path / 'y.jpg').write_bytes(b'abcd')
    assert images.read_image(str(tmp_path / 'y.jpg')) == b'abcd'
    monkeypatch.setattr(decoding, 'MAX_FILE_SIZE', 3)
    with pytest.raises(images.BadImageError, match='4 bytes; at most 3'):
        images.read_image(str(tmp_path / 'y.jpg'))


def _textured(size=(96, 128)):
    """Return a picture whose JPEG is long enough to lose a block."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = np.stack([128 + 80 * np.sin(x / 17), 128 + 60 * np.sin(y / 23), x + y], axis=-1)
    return Image.fromarray((waves + rng.normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8))


def _with_height(jpeg, factor):
    """Return a JPEG whose header tells of another height than its data have."""
    frame = next(jpeg.index(mark) for mark in (b'\xff\xc0', b'\xff\xc2') if mark in jpeg)
    height = int.from_bytes(jpeg[frame + 5 : frame + 7], 'big')
    return jpeg[: frame + 5] + int(factor * height).to_bytes(2, 'big') + jpeg[frame + 7 :]


# What disks, downloads and careless programs make of a JPEG; k is the middle of its bytes.
DAMAGES = {
    'cut short': lambda j, k: j[:k],
    'cut short, with an end': lambda j, k: j[:k] + b'\xff\xd9',
    'cut very short, with an end': lambda j, k: j[: k * 3 // 5] + b'\xff\xd9',
    'a block of zeros': lambda j, k: j[:k] + bytes(1024) + j[k + 1024 :],
    'a block of ones': lambda j, k: j[:k] + b'\xff' * 1024 + j[k + 1024 :],
    'a block lost': lambda j, k: j[:k] + j[k + 1024 :],
    'a block of another file': lambda j, k: (
        j[:k] + bytes((i * 37) % 251 for i in range(1024)) + j[k + 1024 :]
    ),
    'line ends converted': lambda j, k: j.replace(b'\n', b'\r\n'),
    'a header of twice the height': lambda j, k: _with_height(j, 2),
    'a header of half the height': lambda j, k: _with_height(j, 0.5),
}
KINDS = {
    'baseline': {},
    'progressive': {'progressive': True},
    'restarts': {'restart_marker_rows': 1},
    'fine colors': {'subsampling': 0, 'optimize': True},
}


@pytest.mark.parametrize('kind', [*KINDS, 'grayscale', 'cmyk'])
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_jpeg_of_which_a_part_is_lost_is_refused(damage, kind):
    modes = {'grayscale': 'L', 'cmyk': 'CMYK'}
    image = _textured().convert(modes.get(kind, 'RGB'))
    data = encode(image, quality=95, **KINDS.get(kind, {}))
    assert images.check_image(data).size == (96, 128)
    damaged = DAMAGES[damage](data, len(data) // 2)
    with pytest.raises(images.BadImageError, match='^broken picture: '):
        images.check_image(damaged)


def test_a_damaged_jpeg_may_be_kept_on_purpose():
    data = encode(_textured(), quality=95)
    damaged = DAMAGES['a block of zeros'](data, len(data) // 2)
    picture = images.check_image(damaged, keeps_damaged=True)
    assert picture[:3] == (damaged, (96, 128), ())
    assert picture.damage.startswith('Corrupt JPEG data')
    assert images.check_image(data, keeps_damaged=True).damage == ''


def test_what_follows_a_jpeg_is_no_damage(pixels):
    data = encode(Image.fromarray(pixels)) + b'\xff\xda of a film ' * 1000
    assert images.check_image(data).jpeg == data


def test_thousands_of_scans_are_refused_at_once():
    data = encode(_textured(), progressive=True)
    last = data.rindex(b'\xff\xda')
    many = data[:-2] + data[last:-2] * 3000 + data[-2:]
    start = time.monotonic()
    for check in (images.check_image, decoding.decode):
        with pytest.raises(images.BadImageError, match=r'12288 px in 101 scans; at most 100 scans'):
            check(many)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize('mode', ['grayscale', 'color'])
def test_twelve_bits_in_sixteen_are_refused(mode):
    values = np.linspace(0, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    if mode == 'grayscale':
        data = encode(Image.fromarray(values), 'PNG')
    else:
        data = tf.io.encode_png(np.stack([values] * 3, axis=-1)).numpy()
    with pytest.raises(images.BadImageError, match='none above 4095: near black'):
        images.check_image(data)
    bright = tf.io.encode_png(np.stack([values * 16] * 3, axis=-1)).numpy()
    assert images.check_image(bright).changes == ('format',)


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / 'x.jpg')
    (tmp_path / 'link.jpg').symlink_to('x.jpg')
    for name in ('x.jpg', 'link.jpg'):
        for read in (images.read_image, decoding.read_file):
            with pytest.raises(images.BadImageError, match='is no regular file'):
                read(str(tmp_path / name))


def test_names_that_are_no_text_are_opened_and_impossible_ones_refused(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b'/\xff.jpg')
    pathlib.Path(path).write_bytes(b'data')
    assert images.read_image(path) == b'data'
    for name in ('a\0.jpg', '\ud800.jpg'):
        with pytest.raises(images.BadImageError, match=r'no file .*(x00|ud800)\.jpg'):
            images.read_image(f'{tmp_path}/{name}')
