"""Exported folders: the same points as the network, whole, and at work without the project."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from config import UserError
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT, call, check_mistake
from tests.tiny_runs import smooth_image, write_run
from utility.command_line.scripts import RunError
from utility.export import folder
from utility.export.formats import FORMATS, Format, Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion, load, predictor
from utility.predict.exported import radii, run_saved_model, standalone
from utility.predict.exported.standalone import ExportedModel
from utility.predict.views_to_points import PredictOptions

IMAGE = smooth_image(120, 90)
RADII = {
    'level': 0.9, 'low': [0, 0, 0], 'high': [1, 1, 1], 'weights': [1, 2, 3],
    'sizes': {c: dict.fromkeys(names, 2.5) for c, names in SCHEMA.categories.items()},
}  # fmt: skip
# What each format needs beside the project's own packages.
LARGEST_MEDIANS = {'float32': 1e-2, 'float16': 0.3, 'int8': 8.0}  # px, the median
PACKAGES = {'onnx': ['onnx', 'tf2onnx', 'onnxruntime']}


def _graph(run_dir, **options):
    options = PredictOptions(**options)
    return ExportGraph(fusion.load_network(run_dir, options), options)


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp('runs') / 'all')


# 'web' is an ONNX file with a page, see test_web.py.
@pytest.fixture(scope='module', params=sorted({*FORMATS.names()} - {'web'}))
def exported(request, run_dir, tmp_path_factory):
    """The name of a format and a folder of it, of a network for all categories."""
    for package in PACKAGES.get(request.param, ()):
        pytest.importorskip(package, reason=f'{package} is not installed (tests/run.sh --export)')
    output = tmp_path_factory.mktemp(request.param) / 'out'
    folder.export(_graph(run_dir, flip_test=True), request.param, str(output), Settings())
    return request.param, output


def _predictor_points(run_dir, image, category, **options):
    """Return what predict_split would give for the image."""
    from preprocessing.conversion.images import DecodedImage

    jpeg = tf.io.encode_jpeg(image, quality=95).numpy()
    pixels = tf.io.decode_jpeg(jpeg, dct_method='INTEGER_ACCURATE', fancy_upscaling=True).numpy()
    found = predictor.predict_images(
        [run_dir], ['a'], [DecodedImage(jpeg, image.shape[:2], ())], [category],
        PredictOptions(**options),
    )  # fmt: skip
    return pixels, found.keypoints[0], found.scores[0]


def test_an_export_whose_name_is_a_pattern_is_opened(exported, tmp_path):
    name, output = exported
    shutil.copytree(output, tmp_path / 'a[2]*\\')
    folders = str(output), str(tmp_path / 'a[2]*\\')
    first, second = (ExportedModel(one, FORMATS.get(name).start) for one in folders)
    assert first.predict(IMAGE, 'skirt') == second.predict(IMAGE, 'skirt')


@pytest.mark.parametrize('category', ['blouse', 'trousers'])
def test_points_are_those_of_the_predictor(exported, run_dir, category):
    name, output = exported
    pixels, keypoints, scores = _predictor_points(run_dir, IMAGE, category, flip_test=True)
    model = ExportedModel(str(output), FORMATS.get(name).start)
    found = model.predict(pixels, category)
    own = list(SCHEMA.indices(category))
    assert list(found) == [SCHEMA.keypoints[k] for k in own]
    np.testing.assert_allclose([p[:2] for p in found.values()], keypoints[own], atol=5e-3)
    np.testing.assert_allclose([p[2] for p in found.values()], scores[own], atol=1e-4)


def test_a_folder_works_without_the_project(exported, tmp_path):
    name, output = exported
    path = tmp_path / 'a.png'
    path.write_bytes(tf.io.encode_png(IMAGE).numpy())
    command = [sys.executable, '-I', output / 'predict.py', '--category=skirt', path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer['points']) == set(SCHEMA.categories['skirt'])
    ours = ExportedModel(str(output), FORMATS.get(name).start).predict(IMAGE, 'skirt')
    for point, expected in ours.items():
        np.testing.assert_allclose(answer['points'][point], expected, atol=1e-3)


def test_a_folder_tells_what_it_is(exported, run_dir):
    name, output = exported
    description = json.loads((output / 'model.json').read_text())
    assert description['format'] == name
    assert description['keypoints'] == list(SCHEMA.keypoints)
    assert description['categories']['skirt'] == list(SCHEMA.categories['skirt'])
    assert description['image_size'] == [64, 64]
    assert description['experiment']['network']['backbone'] == 'resnet18'
    assert description['compared']['median'] < 1e-2
    assert 'Apache License' in (output / 'LICENSE.txt').read_text()
    assert sorted(os.listdir(output)) == sorted(
        ['model.json', 'predict.py', 'LICENSE.txt', description['files'][0].split('/')[0]]
    )


def test_no_file_tells_where_it_was_made(exported, run_dir):
    _, output = exported
    made_in = [os.path.dirname(run_dir), str(output.parent), str(ROOT), tempfile.gettempdir() + '/']
    for path in (path for path in output.rglob('*') if path.is_file()):
        content = path.read_bytes()
        assert [place for place in made_in if place.encode() in content] == [], path


def test_the_script_is_short_and_imports_little(exported):
    _, output = exported
    text = (output / 'predict.py').read_text()
    compile(text, 'predict.py', 'exec')
    for package in ('config', 'preprocessing', 'utility', 'cv2', 'pandas'):
        assert f'import {package}' not in text and f'from {package}' not in text


def test_a_server_gets_jpegs_and_names_of_categories(run_dir, tmp_path):
    output = tmp_path / 'out'
    graph = _graph(run_dir)
    folder.export(graph, 'saved_model', str(output), Settings())
    serve = tf.saved_model.load(str(output / 'saved_model' / '1')).signatures['serving_default']
    images = [IMAGE, smooth_image(50, 200, seed=1)]
    jpegs = [tf.io.encode_jpeg(image).numpy() for image in images]
    found = serve(image_bytes=tf.constant(jpegs), category=tf.constant(['skirt', 'dress']))
    for row, (jpeg, category) in enumerate(zip(jpegs, ('skirt', 'dress'))):
        pixels = tf.io.decode_jpeg(jpeg, dct_method='INTEGER_ACCURATE', fancy_upscaling=True)
        number = graph.categories.index(category)
        expected = graph.of_image(pixels, tf.constant(number))
        np.testing.assert_allclose(found['keypoints'][row], expected['keypoints'], atol=1e-2)
        visibility = found['visibility'][row].numpy()
        assert np.flatnonzero(visibility == 1).tolist() == list(SCHEMA.indices(category))
    with pytest.raises(tf.errors.InvalidArgumentError, match='unknown category; there are: blouse'):
        serve(image_bytes=tf.constant(jpegs[:1]), category=tf.constant(['hat']))


def test_a_network_of_one_category_has_its_points_only(tmp_path):
    run_dir = write_run(tmp_path / 'skirt', 'skirt')
    output = tmp_path / 'out'
    folder.export(_graph(run_dir, refine='quarter'), 'saved_model', str(output), Settings())
    model = ExportedModel(str(output), run_saved_model.start)
    assert set(model.predict(IMAGE)) == set(SCHEMA.categories['skirt'])  # no category needed
    with pytest.raises(ValueError, match="unknown category 'dress'; there are: skirt"):
        model.predict(IMAGE, 'dress')


def test_an_unknown_category_is_not_that_of_the_network_for_all(run_dir, tmp_path):
    words = ('-m', 'utility.export', run_dir, '--format=tflite', f'--output={tmp_path}/out')
    check_mistake(call(*words, '--category=hat'), "unknown category 'hat'; fashionai has: blouse")


def _write_nothing_true(graph, settings, path):
    (pathlib.Path(path) / 'wrong').write_text('')
    return ['wrong']


def _start_wrong(path, description):
    return lambda image, category: (np.zeros([24, 2], np.float32), np.zeros(24, np.float32))


def test_a_file_with_other_points_does_not_get_its_name(run_dir, tmp_path, monkeypatch):
    wrong = Format(_write_nothing_true, _start_wrong, ('float32',), 'nothing')
    monkeypatch.setitem(FORMATS._entries, 'wrong', wrong)
    with pytest.raises(RunError, match='gives other points than the network'):
        folder.export(_graph(run_dir), 'wrong', str(tmp_path / 'out'), Settings())
    assert os.listdir(tmp_path) == []


def test_an_earlier_export_is_replaced_and_nothing_else(run_dir, tmp_path):
    graph, output = _graph(run_dir), tmp_path / 'out'
    output.mkdir()
    (output / 'mine.txt').write_text('dear')
    with pytest.raises(ValueError, match='is there and no earlier export'):
        folder.export(graph, 'saved_model', str(output), Settings())
    assert os.listdir(output) == ['mine.txt']
    (output / 'model.json').write_text('{}')  # of another program
    with pytest.raises(ValueError, match='is there and no earlier export'):
        folder.export(graph, 'saved_model', str(output), Settings())
    shutil.rmtree(output)
    folder.export(graph, 'saved_model', str(output), Settings())
    (output / 'mine.txt').write_text('dear')
    with pytest.raises(ValueError, match="has 'mine.txt' beside an export, which would be removed"):
        folder.export(graph, 'saved_model', str(output), Settings())
    (output / 'mine.txt').unlink()
    (output / '__pycache__').mkdir()  # of predict.py, imported
    folder.export(graph, 'saved_model', str(output), Settings())
    assert 'predict.py' in os.listdir(output) and '__pycache__' not in os.listdir(output)
    assert os.listdir(tmp_path) == ['out']


@pytest.mark.slow
@pytest.mark.parametrize('name', ['onnx', 'tflite'])
@pytest.mark.parametrize('precision', ['float16', 'int8'])
def test_other_precisions_are_smaller_and_almost_the_same(
    whole_sizes, run_dir, tmp_path, name, precision
):
    graph = _graph(run_dir)
    images = [smooth_image(80 + number, 70, seed=number) for number in range(4)]
    crops = [graph.crop(image)[0].numpy() for image in images]
    output = tmp_path / 'out'
    found = folder.export(graph, name, str(output), Settings(precision, crops), images)
    assert found.median < LARGEST_MEDIANS[precision]
    assert _files_size(output) < 0.75 * whole_sizes(name)
    if (name, precision) == ('onnx', 'int8'):
        assert _rectified_too_late(output / 'model.onnx') == []
        assert _bytes_to_leave_out(output / 'model.onnx') == 0


def _rectified_too_late(path):
    """Return the rectifiers of quantized inputs, which have steps for what is taken away."""
    import onnx

    nodes = onnx.load(path).graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    rectifiers = [node for node in nodes if node.op_type in ('Relu', 'Clip')]
    return [node for node in rectifiers if made_by.get(node.input[0]) == 'DequantizeLinear']


def _bytes_to_leave_out(path):
    """Return how much is stored of zero points that are 0, and of the scales of biases, which are
    those of inputs times those of weights.
    """
    import onnx

    graph = onnx.load(path).graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == 'DequantizeLinear']
    stored = [node for node in nodes if node.input[0] in arrays]
    assert len(stored) > 40  # weights and biases
    known = [node.input[2] for node in stored if len(node.input) == 3]
    known += [node.input[1] for node in stored if arrays[node.input[0]].dtype == np.int32]
    return sum(arrays[name].nbytes for name in known if name in arrays)


def _files_size(output):
    files = json.loads((output / 'model.json').read_text())['files']
    return sum((output / file).stat().st_size for file in files)


@pytest.fixture(scope='module')
def whole_sizes(run_dir, tmp_path_factory):
    """What gives the bytes of a format in float32."""

    @functools.cache
    def size(name):
        for package in PACKAGES.get(name, ()):
            pytest.importorskip(package, reason=f'no {package} (tests/run.sh --export)')
        output = tmp_path_factory.mktemp(name) / 'out'
        folder.export(_graph(run_dir), name, str(output), Settings())
        return _files_size(output)

    return size


def test_a_precision_that_a_format_lacks_is_told(run_dir, tmp_path):
    with pytest.raises(ValueError, match='--precision=int8: must be float32 of saved_model'):
        folder.export(_graph(run_dir), 'saved_model', str(tmp_path / 'out'), Settings('int8'))


@pytest.fixture(scope='module')
def whole(run_dir, tmp_path_factory):
    """A folder that nothing is changed in."""
    output = tmp_path_factory.mktemp('whole') / 'out'
    folder.export(_graph(run_dir), 'saved_model', str(output), Settings())
    return output


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('model.json', None, 'is no exported network: no model.json'),
        ('model.json', '{', 'model.json is broken'),
        ('model.json', '{}', "broken: it has no 'format'"),
        ('saved_model', None, 'is no whole export: saved_model/1 is missing'),
        ('saved_model/1/saved_model.pb', 'x', 'cannot be opened, it is damaged'),
    ],
)
def test_damaged_folders_are_told(whole, tmp_path, name, content, message):
    output = shutil.copytree(whole, tmp_path / 'out')
    path = output / name
    if content is not None:
        path.write_text(content)
    else:
        path.rename(tmp_path / 'away')
    with pytest.raises(ValueError, match=message):
        ExportedModel(str(output), run_saved_model.start)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('files', []),
        ('files', [1]),
        ('files', ['../other']),
        ('files', ['/etc']),
        ('files', ['saved_model/1', '..']),
        ('keypoints', 'abc'),
        ('keypoints', ['a', 'a']),
        ('keypoints', [None]),
        ('categories', []),
        ('categories', {}),
        ('categories', {'skirt': ['no such point']}),
        ('image_size', [64]),
        ('image_size', [0, 64]),
        ('image_size', ['64', 64]),
        ('format', ['onnx']),
    ],
)
def test_a_description_that_no_export_writes_is_refused(whole, tmp_path, key, value):
    description = json.loads((whole / 'model.json').read_text())
    (tmp_path / 'model.json').write_text(json.dumps({**description, key: value}))
    with pytest.raises(UserError, match=f"model.json is broken: its '{key}' is not what an export"):
        standalone.read_description(str(tmp_path))


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('level', 1),
        ('level', 10**400),
        ('low', [0, 0]),
        ('weights', [1e300, 0, 0]),
        ('weights', [30, -30, 0]),
        ('high', [float('nan')] * 3),
        ('sizes', {}),
        ('sizes', {c: dict.fromkeys(names, -1.0) for c, names in SCHEMA.categories.items()}),
    ],
)
def test_radii_that_no_export_writes_are_refused(name, value):
    assert radii.are_radii(RADII, SCHEMA.categories)
    assert not radii.are_radii({**RADII, name: value}, SCHEMA.categories)


@pytest.mark.parametrize('text', ['[]', '3', '[' * 5000, '\xff', '{"version": 1}'])
def test_what_is_no_description_is_refused(tmp_path, text):
    (tmp_path / 'model.json').write_text(text, encoding='latin-1')
    with pytest.raises(UserError, match='model.json is broken'):
        standalone.read_description(str(tmp_path))


def test_a_description_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'model.json')
    with pytest.raises(UserError, match='model.json is broken: is no regular file'):
        standalone.read_description(str(tmp_path))


def test_points_of_another_number_than_told_are_refused(whole, tmp_path):
    output = shutil.copytree(whole, tmp_path / 'out')
    description = json.loads((output / 'model.json').read_text())
    description['keypoints'].append('one_more')
    (output / 'model.json').write_text(json.dumps(description))
    with load(str(output)) as model, pytest.raises(UserError, match='gives points of shape'):
        model.predict(np.zeros([64, 64, 3], np.uint8), model.categories[0])


@pytest.fixture(scope='module')
def script(whole):
    """The folder's own predict.py, as a program of one's own would import it."""
    spec = importlib.util.spec_from_file_location('exported_predict', whole / 'predict.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def both(whole, script):
    """`predict` of utility.predict.load and of predict.py, of one folder."""
    with load(str(whole)) as model:
        yield model.predict, script.load().predict


@pytest.mark.parametrize(
    ('image', 'category', 'message'),
    [
        (IMAGE, 'hat', "unknown category 'hat'; there are: blouse"),
        (IMAGE, None, 'category is missing; there are: blouse'),
        (IMAGE.astype(np.float32), 'skirt', 'of dtype float32: must be uint8'),
        (IMAGE[:, :, :2], 'skirt', r'of shape \[120, 90, 2\]: must be'),
        (IMAGE[:1, :1], 'skirt', '1x1 px; a side must be at least 8'),
        (np.broadcast_to(np.uint8(0), [20_000, 20_000, 3]), 'skirt', 'the area at most 50000000'),
        (b'', 'skirt', 'the file is empty'),
        (b'no image', 'skirt', 'not a picture in one of the formats'),
        ('/nowhere/a.jpg', 'skirt', '/nowhere/a.jpg: No such file'),
        (3, 'skirt', 'of type int: must be a path, bytes or a NumPy array'),
    ],
)
def test_mistakes_are_told_alike(both, image, category, message):
    said = []
    for predict in both:
        with pytest.raises(ValueError, match=message) as caught:
            predict(image, category)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_gray_and_alpha_are_seen_alike(both):
    ours, theirs = both
    alpha = smooth_image(*IMAGE.shape[:2], seed=1)[:, :, :1]
    for image in (IMAGE[:, :, 0], np.concatenate([IMAGE, alpha], axis=-1)):
        found = np.array(list(theirs(image, 'skirt').values()))
        np.testing.assert_allclose(found[:, :2], ours(image, 'skirt').points, atol=1e-3)


def test_damaged_folders_are_told_alike(script, whole, tmp_path):
    output = shutil.copytree(whole, tmp_path / 'out')
    (output / 'saved_model/1/saved_model.pb').unlink()
    said = []
    for open_folder in (load, script.load):
        with pytest.raises(ValueError, match='cannot be opened, it is damaged') as caught:
            open_folder(str(output))
        said.append(str(caught.value))
    assert said[0] == said[1]
    with pytest.raises(ValueError, match='is no exported network: no model.json in it'):
        script.load(str(tmp_path))


def test_the_command_of_a_folder_reads_any_name_and_its_reader_may_leave(whole, tmp_path):
    path = tmp_path / '\u8863.jpg'
    path.write_bytes(tf.io.encode_jpeg(IMAGE).numpy())
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, whole / 'predict.py', '-'],
        input=os.fsencode(f'skirt\t{path}\n'),
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b'')


def test_the_command_of_a_folder_knows_the_category_of_what_it_is_sent(
    script, monkeypatch, capsys, tmp_path
):
    path = tmp_path / 'a.jpg'
    path.write_bytes(tf.io.encode_jpeg(IMAGE).numpy())
    lines = io.TextIOWrapper(io.BytesIO(f'{path}\nblouse\t{path}\n'.encode()))
    monkeypatch.setattr(sys, 'stdin', lines)
    monkeypatch.setattr(sys, 'argv', ['predict.py', '--category=skirt', '-'])
    script.main()
    answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert [answer['category'] for answer in answers] == ['skirt', 'blouse']


def test_the_command_of_a_folder_ends_with_one_line(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['predict.py', '--category=skirt', '/nowhere/a.jpg'])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: /nowhere/a.jpg: No such file or directory\n'
