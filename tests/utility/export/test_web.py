"""The page in a real browser: the points of Python, and words for what cannot be read."""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_runs import smooth_image, write_run
from tests.tiny_servers import served
from utility.command_line.scripts import RunError
from utility.export import folder, web
from utility.export.formats import FORMATS, Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion
from utility.predict.exported.standalone import ExportedModel
from utility.predict.views_to_points import PredictOptions

CHROMIUM = shutil.which('chromium')
# No browser profile, no network but the page's server, and allowed to run as root.
ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking']
SIZES = [(180, 240), (240, 180), (97, 255), (300, 300), (64, 640), (333, 222), (500, 400)]
# By which a point's radius grows as its peak falls; of the first keypoint nothing is known.
RADII = {
    'level': 0.9,
    'low': [0.0, -6.0, 3.0],
    'high': [1.0, 0.0, 7.0],
    'weights': [-1.0, 0.5, 2.0],
    'sizes': {
        category: {name: None if name == names[0] else 3.0 + k for k, name in enumerate(names)}
        for category, names in SCHEMA.categories.items()
    },
}


@pytest.fixture(scope='module')
def page_folder(tmp_path_factory):
    for package in ('onnx', 'tf2onnx', 'onnxruntime', 'playwright'):
        pytest.importorskip(package, reason=f'{package} is not installed (tests/run.sh --export)')
    if CHROMIUM is None:
        pytest.skip('there is no chromium: apt-get install chromium')
    root = tmp_path_factory.mktemp('web')
    run = write_run(root / 'all')
    options = PredictOptions()
    graph = ExportGraph(fusion.load_network(run, options), options)
    folder.export(graph, 'web', str(root / 'page'), Settings(), (), {'radii': RADII})
    return root / 'page'


@pytest.fixture(scope='module')
def address(page_folder):
    with served(functools.partial(_Quiet, directory=str(page_folder))) as address:
        yield address


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope='module')
def browser():
    reason = 'playwright is not installed (tests/run.sh --export)'
    playwright = pytest.importorskip('playwright.sync_api', reason=reason)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, ready; whatever it asks of another server, and every error, is a failure."""
    context = browser.new_context(viewport={'width': 360, 'height': 740}, color_scheme='dark')
    page, asked, errors = context.new_page(), [], []
    page.on('request', lambda request: asked.append(request.url))
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector('#controls:not([hidden])', timeout=60_000)
    yield page
    context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, 'blob:', 'data:'))] == []


def _points(page, path: pathlib.Path, category: str) -> dict:
    """Choose a category and a picture; return what the page offers as JSON."""
    page.select_option('#category', category)
    page.set_input_files('#files', str(path))
    page.locator('#status', has_text=f'{path.name}: ').wait_for(timeout=60_000)
    with page.expect_download() as download:
        page.locator('.result .json').first.click()
    text = pathlib.Path(download.value.path()).read_text()
    return json.loads(text)


def test_points_are_those_of_python(page, page_folder, tmp_path):
    model = ExportedModel(str(page_folder), FORMATS.get('web').start)
    for seed, size in enumerate(SIZES):
        path = tmp_path / f'{seed}.png'
        Image.fromarray(smooth_image(*size, seed)).save(path)
        category = ('blouse', 'trousers', 'dress')[seed % 3]
        answer = model.describe(str(path), category)
        expected, radii = answer['points'], answer['radii']
        shown = _points(page, path, category)
        assert (shown['height'], shown['width']) == size and shown['category'] == category
        assert list(shown['points']) == list(expected)
        np.testing.assert_allclose(
            list(shown['points'].values()), list(expected.values()), atol=0.01
        )
        assert radii == pytest.approx(shown['radii'], rel=1e-2)
        assert None in radii.values() and min(filter(None, radii.values())) > 1


@pytest.mark.parametrize('kind', ['JPEG', 'grey', 'alpha', 'turned'])
def test_other_kinds_of_pictures(page, page_folder, tmp_path, kind):
    image = Image.fromarray(smooth_image(200, 150, 5))
    path, options = tmp_path / 'a.png', {}
    if kind in ('JPEG', 'turned'):
        path, options['quality'] = tmp_path / 'a.jpg', 95
    if kind == 'turned':
        exif = Image.Exif()
        exif[0x0112] = 6
        options['exif'] = exif
    if kind == 'grey':
        image = image.convert('L')
    if kind == 'alpha':
        image.putalpha(Image.fromarray(smooth_image(200, 150, 6)[:, :, 0]))
    image.save(path, **options)
    expected = ExportedModel(str(page_folder), FORMATS.get('web').start).predict(str(path), 'skirt')
    shown = _points(page, path, 'skirt')
    keypoints = [np.array(list(found.values()))[:, :2] for found in (shown['points'], expected)]
    np.testing.assert_allclose(*keypoints, atol=0.5)  # px: decoders differ by a gray level


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'', 'the file is empty'),
        (b'no picture at all', 'not a picture that this browser can read'),
        ((1, 1), 'a side must be at least 8'),
        ((20_000, 1_500), 'the area at most 24000000'),
    ],
)
def test_what_cannot_be_read_is_said_in_words(page, tmp_path, data, words):
    path = tmp_path / 'wrong.png'
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        Image.new('RGB', data).save(path)
    page.set_input_files('#files', str(path))
    page.locator('#error:not(:empty)').wait_for(timeout=30_000)
    said = page.text_content('#error')
    assert said.startswith('wrong.png: ') and words in said
    # It goes on with the next picture.
    Image.fromarray(smooth_image(50, 50)).save(tmp_path / 'right.png')
    assert len(_points(page, tmp_path / 'right.png', 'skirt')['points']) == 4
    assert page.text_content('#error') == ''


def test_it_works_without_the_network_once_it_is_loaded(page, tmp_path):
    page.context.set_offline(True)
    Image.fromarray(smooth_image(50, 50)).save(tmp_path / 'a.png')
    page.select_option('#category', 'skirt')
    page.set_input_files('#files', str(tmp_path / 'a.png'))
    page.wait_for_selector('.result canvas')
    assert page.locator('.result tbody tr').count() == 4


def test_it_is_usable_by_keyboard_and_on_a_narrow_screen(page, tmp_path):
    Image.fromarray(smooth_image(900, 1200)).save(tmp_path / 'a.png')
    _points(page, tmp_path / 'a.png', 'outwear')
    width = page.evaluate('[document.documentElement.scrollWidth, innerWidth]')
    assert width[0] <= width[1]
    page.focus('#category')
    reached = []
    for _ in range(9):
        reached.append(
            page.evaluate('document.activeElement.id || document.activeElement.className')
        )
        page.keyboard.press('Tab')
    assert {'category', 'files', 'names', 'json', 'png', 'remove'} <= set(reached)
    page.focus('.remove')
    page.keyboard.press('Enter')
    assert page.locator('.result').count() == 0


def test_names_are_written_on_the_picture_where_they_are_wanted(page, tmp_path):
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(tmp_path / 'a.png')
    _points(page, tmp_path / 'a.png', 'outwear')
    content = 'document.querySelector(".result canvas").toDataURL()'
    with_names = page.evaluate(content)
    page.uncheck('#names')
    assert page.evaluate(content) != with_names


def test_a_broken_folder_is_said_in_words(browser, page_folder, tmp_path):
    shutil.copytree(page_folder, tmp_path / 'page')
    (tmp_path / 'page/model.onnx').unlink()
    page = browser.new_page()
    with served(functools.partial(_Quiet, directory=str(tmp_path / 'page'))) as address:
        page.goto(address)
        page.locator('#error:not(:empty)').wait_for(timeout=30_000)
        assert page.text_content('#error') == 'model.onnx cannot be loaded (404)'
        page.close()


def test_a_foreign_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('KEYPOINTS_WEIGHTS', str(tmp_path))
    with served(_Other) as address:
        monkeypatch.setenv(web.REGISTRY_VARIABLE, address)
        with pytest.raises(RunError, match='its SHA-256 is another'):
            web.fetch_runtime()
    with pytest.raises(RunError, match='cannot be fetched'):
        web.fetch_runtime()


class _Other(_Quiet):
    """Answers every request with a file that is not the package."""

    def do_GET(self):  # noqa: N802  the name that http.server calls
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'something else')
