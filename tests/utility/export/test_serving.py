"""The SavedModel behind REST: the code of docs/serving.md against a server that reads its JSON as
TensorFlow Serving does.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf
import yaml

from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT
from tests.tiny_runs import smooth_image, write_run
from tests.tiny_servers import served
from utility.export import folder
from utility.export.formats import Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion, load
from utility.predict.views_to_points import PredictOptions

PAGE = (ROOT / 'docs/serving.md').read_text()
COMPOSE = ROOT / 'demos/cloud/serving_compose.yaml'


def _tensors(instances: list[dict], specs: dict) -> dict[str, tf.Tensor]:
    """Return the inputs of a signature, of the row format of REST: strings as UTF-8, or base64 in
    an object of its own.
    """
    assert all(instance.keys() == specs.keys() for instance in instances), 'inputs by their names'
    return {
        name: tf.constant([_value(instance[name]) for instance in instances], spec.dtype)
        for name, spec in specs.items()
    }


def _value(value):
    is_binary = isinstance(value, dict)
    if is_binary:
        assert value.keys() == {'b64'}
    return base64.b64decode(value['b64'], validate=True) if is_binary else value


class _Rest(http.server.BaseHTTPRequestHandler):
    signature = None

    def do_POST(self):  # noqa: N802  the name that http.server calls
        assert self.path == '/v1/models/keypoints:predict'
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        specs = self.signature.structured_input_signature[1]
        try:
            found = self.signature(**_tensors(body['instances'], specs))
            columns = {name: value.numpy().tolist() for name, value in found.items()}
            rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
            status, answer = 200, {'predictions': rows}
        except tf.errors.InvalidArgumentError as error:
            status, answer = 400, {'error': error.message}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    root = tmp_path_factory.mktemp('serving')
    options = PredictOptions()
    graph = ExportGraph(fusion.load_network(write_run(root / 'all'), options), options)
    folder.export(graph, 'saved_model', str(root / 'out'), Settings())
    return root / 'out'


@pytest.fixture(scope='module')
def address(output):
    model = tf.saved_model.load(str(output / 'saved_model' / '1'))
    signature = model.signatures['serving_default']
    with served(type('_Served', (_Rest,), {'signature': staticmethod(signature)})) as address:
        yield address.rstrip('/')
    del model


@pytest.fixture(scope='module')
def predict():
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    names = {}
    exec(compile(code, 'docs/serving.md', 'exec'), names)  # noqa: S102  the page's own code
    return names['predict']


@pytest.fixture
def paths(tmp_path):
    """Of a JPEG and a PNG of different sizes."""
    images = [smooth_image(120, 90), smooth_image(50, 200, seed=1)]
    files = [tf.io.encode_jpeg(images[0], quality=95), tf.io.encode_png(images[1])]
    paths = [tmp_path / name for name in ('a.jpg', 'b.png')]
    for path, content in zip(paths, files):
        path.write_bytes(content.numpy())
    return paths


def test_the_page_gets_the_points_of_the_folder(predict, address, output, paths):
    found = predict(address, paths, 'skirt')
    own = list(SCHEMA.indices('skirt'))
    assert len(found) == 2
    with load(output) as model:
        for answer, expected in zip(found, model.predict(paths, 'skirt')):
            assert np.flatnonzero(np.array(answer['visibility']) == 1).tolist() == own
            np.testing.assert_allclose(
                np.array(answer['keypoints'])[own], expected.points, atol=0.01
            )
            np.testing.assert_allclose(np.array(answer['scores'])[own], expected.scores, atol=1e-3)


def test_mistakes_are_answered_in_words(predict, address, paths):
    with pytest.raises(ValueError, match='unknown category; there are: blouse'):
        predict(address, paths, 'hat')
    paths[1].write_bytes(b'no image')
    with pytest.raises(ValueError, match='Unknown image file format|Expected image'):
        predict(address, paths, 'skirt')  # the whole batch, as the page says


def test_the_shell_line_is_the_same_request():
    line = next(line for line in PAGE.splitlines() if line.startswith('echo '))
    text = shlex.split(line.replace('$(base64 -w0 shirt.jpg)', 'QUJD').removesuffix('|'))[1]
    (instance,) = json.loads(text)['instances']
    assert instance == {'image_bytes': {'b64': 'QUJD'}, 'category': 'blouse'}


def test_the_server_is_given_what_the_export_wrote(output):
    service = yaml.safe_load(COMPOSE.read_text())['services']['keypoints']
    model, batching = (volume.rsplit(':', 2) for volume in service['volumes'])
    assert model[0].endswith('/saved_model') and (output / 'saved_model/1/saved_model.pb').is_file()
    assert model[1] == '/models/' + service['environment']['MODEL_NAME']
    assert (COMPOSE.parent / batching[0]).is_file()
    assert f'--batching_parameters_file={batching[1]}' in service['command']
    assert 'localhost:8501/v1/models/keypoints' in PAGE
    assert '127.0.0.1:8501:8501' in service['ports']
