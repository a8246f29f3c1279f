"""The readers that benchmarks.fuzz tries, each with sound contents of the files it reads.

TensorFlow is imported when a target that needs it is made, in a process of its own: most of them
work without, and the memory of each is counted.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import tiny_formats
from config import Experiment
from preprocessing.datasets import DATASETS, Annotation, Source
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import read_table
from preprocessing.writers import coco
from utility.checkpoints import bundles, evaluations, files, runs, step_tables, variables
from utility.predict import uncertainty
from utility.predict.exported import radii, standalone
from utility.pretrained.files import open_weights
from utility.submissions import examine
from utility.train import starts

_SIZE = 64  # px of pictures
_POINTER = (
    b'model_checkpoint_path: "model.ckpt-5"\n'
    b'all_model_checkpoint_paths: "model.ckpt-3"\nall_model_checkpoint_paths: "model.ckpt-5"\n'
)


class NonsenseError(AssertionError):
    """An input was accepted, and what came of it cannot be."""


class Target(NamedTuple):
    """A reader: sound contents of its file, and what reads it; text: whether words are changed."""

    sound: tuple[bytes, ...]
    read: Callable[[Path], None]
    text: bool = False


def _tables() -> Target:
    plain = _table_text(SCHEMA).encode()

    def read(path):
        table = read_table(path, SCHEMA)
        if not len(table.lines) == len(set(table.image_ids)) == len(table.keypoints):
            raise NonsenseError('rows and ids differ')

    return Target((plain, gzip.compress(plain, mtime=0), b'\xef\xbb\xbf' + plain), read, True)


def _table_text(schema) -> str:
    rows = [['image_id', 'image_category', *schema.keypoints]]
    for number, category in enumerate(schema.categories):
        present = schema.categories[category]
        cells = (
            f'{number}_{k}_1' if n in present else '-1_-1_-1' for k, n in enumerate(rows[0][2:])
        )
        rows.append([f'Images/{category}/{number}.jpg', category, *cells])
    return '\n'.join(map(','.join, rows)) + '\n'


def _submissions() -> Target:
    def read(path):
        examine.examine(path, SCHEMA).to_json()

    return Target((_table_text(SCHEMA).encode(),), read, True)


def _picture(file_format: str, mode: str = 'RGB', **options) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (_SIZE, _SIZE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, file_format, **options)
    return buffer.getvalue()


def _pictures() -> Target:
    import tensorflow as tf

    from preprocessing.conversion import images

    kinds = [('JPEG', 'RGB'), ('JPEG', 'CMYK'), ('PNG', 'RGBA'), ('GIF', 'P'), ('BMP', 'RGB')]
    kinds += [('TIFF', 'RGB'), ('WEBP', 'RGB'), ('PNG', 'I;16')]

    def read(path):
        picture = images.check_image(images.read_image(str(path)))
        shape = tuple(tf.io.decode_jpeg(picture.jpeg, channels=3).shape)
        if shape != (*picture.size, 3):
            raise NonsenseError(f'{shape} px for {picture.size}')

    sound = [_picture(*kind) for kind in kinds if kind[1] != 'I;16']
    return Target((*sound, _picture('JPEG', progressive=True)), read)


def _records() -> Target:
    import tensorflow as tf

    from preprocessing import faults, records

    count = SCHEMA.num_keypoints
    points = np.ones([count, 2], np.float32)
    annotation = Annotation('a', 'a.jpg', 'skirt', points, np.ones(count, np.int32))
    example = records.encode_example(_picture('JPEG'), annotation, (_SIZE, _SIZE))
    serialized = tf.TensorSpec([], tf.string)
    decode = tf.function(lambda record: records.decode_example(record, SCHEMA), [serialized])

    def read(path):
        # With sums that are right, as a program that writes nonsense has them.
        shard = str(path) + '.tfrecord'
        with tf.io.TFRecordWriter(shard) as writer:
            writer.write(path.read_bytes())
        with faults.explained([shard], SCHEMA):
            for record in tf.data.TFRecordDataset(shard):
                decoded = decode(record)
        if not np.isfinite(decoded['keypoints']).all():
            raise NonsenseError('points that are not finite')

    return Target((example,), read)


def _shards() -> Target:
    import tensorflow as tf

    from preprocessing import faults

    sound = _records().sound[0]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'x')
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(3):
                writer.write(sound)
        content = Path(path).read_bytes()
    return Target((content,), lambda path: faults.check([str(path)], SCHEMA))


def _checkpoints(part: str) -> Target:
    tensors = {f'backbone/{i}': np.ones([i, 3], np.float32) for i in range(20)}
    tensors['names'] = np.array([b'one', b'two'])
    with tempfile.TemporaryDirectory() as folder:
        variables.save(os.path.join(folder, 'x'), tensors)
        content = {p.name[1:]: p.read_bytes() for p in Path(folder).iterdir()}

    def read(path):
        for suffix, data in content.items():
            Path(f'{path}{suffix}').write_bytes(data)
        Path(f'{path}{part}').write_bytes(path.read_bytes())
        reader = bundles.reader(str(path))
        for name in reader.get_variable_to_shape_map():
            with contextlib.suppress(Exception):  # what files.problem tells in a line
                reader.get_tensor(name)

    return Target((content[part],), read)


def _weights() -> Target:
    import h5py
    import safetensors.numpy

    tensors = {'conv1.weight': np.ones([3, 4], np.float32), 'bn.bias': np.zeros(4, np.float32)}
    buffer = io.BytesIO()
    with h5py.File(buffer, 'w') as file:
        for name, tensor in tensors.items():
            file[f'{name}/kernel:0'] = tensor

    def read(path):
        with open_weights(str(path)) as file:
            for name in file.shapes:
                file.read(name)

    return Target((buffer.getvalue(), safetensors.numpy.save(tensors)), read)


def _op_strings() -> Target:
    from preprocessing.ops import op_string

    def read(path):
        text = path.read_bytes().decode(errors='replace')
        op_string.parse_ops(text)

    sound = (Experiment().resolved_ops(Experiment().data.train_ops).encode(),)
    return Target(
        (*sound, b'flip(0.5)|letterbox(height=64,width=64)|warp(fill=(1,2,3))'), read, True
    )


def _settings() -> Target:
    def read(path):
        text = path.read_bytes().decode(errors='replace')
        experiment = Experiment().override(*text.split('\n'))
        if Experiment.from_json(experiment.to_json()) != experiment:
            raise NonsenseError('what is kept is another experiment')

    sound = b'network.image_size=64,64', b'network.head_options={"a": [1, 2], "b": "x"}'
    sound += b'optimizer.learning_rate=1e-3\ndata.batch_size=8', b'loss.sigmas=1,2,3', b'seed=3'
    return Target(sound, read, True)


def _experiments() -> Target:
    def read(path):
        folder = Path(f'{path}_run')
        folder.mkdir(exist_ok=True)
        (folder / 'experiment.json').write_bytes(path.read_bytes())
        runs.load_experiment(str(folder))

    return Target((Experiment().to_json().encode(),), read, True)


def _descriptions() -> Target:
    from preprocessing import records

    counts = {'labelled': True, 'records': dict.fromkeys(SCHEMA.categories, 3)}
    info = {'dataset': 'fashionai', 'schema': {'keypoints': SCHEMA.keypoints}}
    info['splits'] = {'train': {**counts, 'shards': dict.fromkeys(SCHEMA.categories, 1)}}

    def read(path):
        folder = Path(f'{path}_records')
        folder.mkdir(exist_ok=True)
        (folder / records.DATASET_FILE).write_bytes(path.read_bytes())
        for split in records.load_dataset_info(str(folder))['splits']:
            records.count_records(str(folder / split))
            records.count_rejected(str(folder / split))

    return Target((json.dumps(info).encode(),), read, True)


def _step_tables() -> Target:
    def read(path):
        step_tables.read(str(path), skips=True)
        step_tables.read(str(path))

    return Target((b'step,loss,normalized_error\n10,0.5,1\n20,nan,\n',), read, True)


def _run_file(name: str, sound: bytes, read: Callable[[str], Any]) -> Target:
    """Return a reader of a file of a run; `read` is given the folder of a trained network."""

    def read_folder(path):
        folder = Path(f'{path}_run')
        if not folder.exists():
            for step in (3, 5):
                weights = {'head/x': np.ones(3, np.float32)}
                variables.save(str(folder / f'model.ckpt-{step}'), weights)
            (folder / 'checkpoint').write_bytes(_POINTER)
        (folder / name).write_bytes(path.read_bytes())
        read(str(folder))

    return Target((sound,), read_folder, True)


def _evaluations() -> Target:
    columns = f'step,loss,{evaluations.ERROR},{evaluations.ERROR}/skirt'
    return _run_file(
        evaluations.FILE, f'{columns}\n10,0.5,1,0.2\n20,nan,,\n'.encode(), evaluations.read
    )


def _trained_records() -> Target:
    from utility.checkpoints import trained_records

    split = {'skirt': {'records': 3, 'fingerprint': 'e3b0c442'}}
    now = {'dataset': 'fashionai', 'keypoints': ['a', 'b'], 'train': split, 'val': split}
    other = {**now, 'val': {'skirt': {'records': 2, 'fingerprint': 'f00'}}}
    with tempfile.TemporaryDirectory() as folder:
        trained_records.keep(folder, now, 0)
        trained_records.keep(folder, other, 7)
        sound = Path(folder, trained_records.FILE).read_bytes()

    def read(folder):
        trained_records.check(folder, now, accepts=True)
        trained_records.keep(folder, now, 9)

    return _run_file(trained_records.FILE, sound, read)


def _starts() -> Target:
    sound = json.dumps([starts.describe()]).encode()
    return _run_file(starts.FILE, sound, starts.keep)


def _provenances() -> Target:
    def read(folder):
        start, precision = runs.init_checkpoint(folder), runs.precision_of(folder)
        if not all(isinstance(value, (str, type(None))) for value in (start, precision)):
            raise NonsenseError(f'{start!r}, {precision!r}')

    sound = json.dumps({'init_checkpoint': '/w/x.pth', 'precision': 'float32'}).encode()
    return _run_file(runs.PROVENANCE_FILE, sound, read)


def _pointers() -> Target:
    def read(folder):
        prefix = files.usable(folder)
        if os.path.dirname(prefix) != folder:
            raise NonsenseError(f'{prefix} is out of {folder}')

    return _run_file('checkpoint', _POINTER, read)


def _exported() -> Target:
    from utility.predict import api

    sound = {
        'version': standalone.FORMAT_VERSION, 'format': 'onnx', 'files': ['model.json'],
        'install': 'onnxruntime', 'dataset': 'fashionai', 'keypoints': SCHEMA.keypoints[:3],
        'categories': {'blouse': SCHEMA.keypoints[:3]}, 'swaps': [list(SCHEMA.keypoints[:2])],
        'normalizers': {'blouse': list(SCHEMA.keypoints[:2])}, 'image_size': [64, 48],
        'radii': {'level': 0.9, 'low': [0.0] * 3, 'high': [1.0] * 3, 'weights': [0.5, -1, 2],
                  'sizes': {'blouse': {**dict.fromkeys(SCHEMA.keypoints[:2], 2.5),
                                       SCHEMA.keypoints[2]: None}}},
    }  # fmt: skip

    def read(folder):
        description = standalone.read_description(folder)
        api.schema_of_export(description)
        told = description.get('radii')
        for category, names in description['categories'].items() if told else ():
            points = dict.fromkeys(names, (1.0, 2.0, 0.5))
            found = radii.radii_of(told, category, points).values()
            if not all(one is None or 0 <= one < float('inf') for one in found):
                raise NonsenseError('radii that are none')

    return _run_file(standalone.DESCRIPTION_FILE, json.dumps(sound).encode(), read)


def _uncertainties() -> Target:
    from utility.predict.predictor import Predictions

    present = list(SCHEMA.indices('skirt'))
    rng, shape = np.random.default_rng(0), (9, SCHEMA.num_keypoints)
    visibility = np.full(shape, -1)
    visibility[:, present] = 1
    predictions = Predictions(
        np.arange(9).astype(str), np.array(['skirt'] * 9), np.full([9, 2], _SIZE),
        rng.uniform(0, _SIZE, (*shape, 2)).astype(np.float32), np.ones(shape, np.float32),
        visibility, map_features=np.ones((*shape, 3), np.float32),
    )  # fmt: skip
    count = len(uncertainty.FEATURES)
    names = [f'skirt/{SCHEMA.keypoints[k]}' for k in present]
    sound = {
        'version': 1, 'keypoints': SCHEMA.keypoints, 'features': uncertainty.FEATURES,
        'options': {'passes': 1}, 'pictures': 30,
        'model': {'low': [0.0] * count, 'high': [1.0] * count, 'weights': [0.5] * count,
                  'offsets': {names[0]: 0.25}, 'intercept': 1.0, 'floor': 1.0},
        'scores': {name: [0.25, 0.5, 0.75] * 9 for name in names},
        'lengths': {'hem_width/skirt': [0.5] * 40}, 'known': {'skirt': [[0.5] * count] * 9},
    }  # fmt: skip

    def read(path):
        found = uncertainty.read(path)
        if found.keypoints != SCHEMA.keypoints:  # as Calibration.check does
            return
        with np.errstate(over='raise', invalid='raise', divide='raise'):
            radii, sizes = found.radii(predictions), found.sizes(predictions)
            errors = found.expected_errors(predictions)
            found.shifts(predictions)
            for name, ends in SCHEMA.measurements_of('skirt').items():
                found.length_interval('skirt', name, ends, sizes[0])
        if not ((radii[:, present] >= 0).all() and (errors[:, present] >= 0).all()):
            raise NonsenseError('radii that are none')

    return Target((json.dumps(sound).encode(),), read, True)


def _boxes() -> Target:
    from utility.predict import boxes

    def read(path):
        for given in boxes.read_boxes(path, SCHEMA).values():
            for one in given:
                low, high = np.split(one.corners, 2)
                if not (np.isfinite(one.corners).all() and (high > low).all()):
                    raise NonsenseError(f'the box {one.corners}')

    rows = 'image_id,x_min,y_min,x_max,y_max,category', 'a,1,2,30.5,40,skirt', 'b,-3,2,30,1e2,'
    return Target(('\n'.join(rows).encode(),), read, True)


def _coco_ids() -> Target:
    names = SCHEMA.subset('skirt').keypoints
    sound = {
        'images': [{'id': 7, 'file_name': 'a.jpg'}, {'id': 8, 'file_name': 'b/c.jpg'}],
        'categories': [{'id': 4, 'name': 'skirt', 'keypoints': names}, {'id': 5, 'name': 'hat'}],
    }

    def read(path):
        ids = coco.read_ids(path, SCHEMA)
        for known in (ids.images, ids.categories):
            if not all(type(one) is int for one in known.values()):
                raise NonsenseError(f'{known}')

    return Target((json.dumps(sound).encode(),), read, True)


def _data_set(data_format: str, file: str) -> Target:
    """Return the reader of a format of data sets; `file` of a sound one is what is changed."""
    import tensorflow  # noqa: F401  now, and not while the first input is read

    spec, content = DATASETS.get(data_format), tiny_formats.files(data_format)

    def read(path):
        folder = Path(f'{path}_data')
        for name, text in {**content, file: path.read_bytes()}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)
        schema, splits = spec.open(Source(str(folder)))
        for split in splits:
            for annotation in split.annotations():
                problem = tiny_formats.nonsense(annotation, schema, str(folder))
                if problem:
                    raise NonsenseError(problem)

    return Target((content[file],), read, True)


TARGETS: dict[str, Callable[[], Target]] = {
    'annotations': _tables,
    'submissions': _submissions,
    'pictures': _pictures,
    'records': _records,
    'record files': _shards,
    'checkpoint indices': functools.partial(_checkpoints, '.index'),
    'checkpoint data': functools.partial(_checkpoints, '.data-00000-of-00001'),
    'weights': _weights,
    'op strings': _op_strings,
    'settings': _settings,
    'experiment.json': _experiments,
    'dataset.json': _descriptions,
    'step tables': _step_tables,
    'evaluations.csv': _evaluations,
    'records.json of a run': _trained_records,
    'starts.json': _starts,
    'provenance.json': _provenances,
    'checkpoint': _pointers,
    'model.json': _exported,
    'uncertainty.json': _uncertainties,
    'boxes': _boxes,
    'numbers of coco': _coco_ids,
    'coco': functools.partial(_data_set, 'coco', 'annotations.json'),
    'cvat': functools.partial(_data_set, 'cvat', 'annotations.xml'),
    'label_studio': functools.partial(_data_set, 'label_studio', 'tasks.json'),
    'labelme': functools.partial(_data_set, 'labelme', 'a.json'),
    'yolo': functools.partial(_data_set, 'yolo', 'labels/a.txt'),
    'yolo data.yaml': functools.partial(_data_set, 'yolo', 'data.yaml'),
    'deeplabcut': functools.partial(_data_set, 'deeplabcut', 'a.csv'),
    'deepfashion2': functools.partial(_data_set, 'deepfashion2', 'train/annos/a.json'),
    'fld': functools.partial(_data_set, 'fld', 'Anno/list_landmarks.txt'),
    'schema file': functools.partial(_data_set, 'csv', 'schema.json'),
}
