"""Reads damaged and made-up files of every kind: each must be read, or refused in a sentence.

    python -m benchmarks.fuzz --minutes=10 [--output=docs/fuzz.md]
    python -m benchmarks.fuzz --minutes=1 --targets=op strings,settings

Inputs are sound ones in which bytes or words are changed, and random ones, drawn by Hypothesis.
Each kind is read in a process of its own. Counted are inputs; those that were refused; tracebacks,
that is, errors that a command would not tell in a line; inputs that took longer than --patience;
processes that died; and the most memory that a process took. Exits with 1 if something is found.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks.common import ledger, report
from config import Experiment, UserError
from preprocessing.files import write_bytes
from utility.command_line import environment, scripts

_MOST_BYTES = 2 << 30  # of memory
_EXAMPLES = 50  # that Hypothesis draws at once
_SHOWN = 3  # tracebacks of a kind
_SIZE = 64  # px of pictures
_COUNTED = ('inputs', 'refused', 'tracebacks', 'hangs', 'deaths')
_HEADER = ('kind', *_COUNTED, 'MB')
_POINTER = (
    b'model_checkpoint_path: "model.ckpt-5"\n'
    b'all_model_checkpoint_paths: "model.ckpt-3"\nall_model_checkpoint_paths: "model.ckpt-5"\n'
)
_COMMAND = 'python -m benchmarks.fuzz'


class NonsenseError(AssertionError):
    """An input was accepted, and what came of it cannot be."""


class Target(NamedTuple):
    """A reader: sound contents of its file, and what reads it; text: whether words are changed."""

    sound: tuple[bytes, ...]
    read: Callable[[Path], None]
    text: bool = False


def _tables() -> Target:
    from preprocessing.datasets.fashionai import SCHEMA
    from preprocessing.tables import read_table

    plain = _table_text(SCHEMA).encode()

    def read(path):
        table = read_table(path, SCHEMA)
        if not len(table.lines) == len(set(table.image_ids)) == len(table.keypoints):
            raise NonsenseError('rows and ids differ')

    return Target((plain, gzip.compress(plain, mtime=0), b'\xef\xbb\xbf' + plain), read, True)


def _table_text(schema) -> str:
    rows = [['image_id', 'image_category', *schema.keypoints]]
    for number, category in enumerate(schema.categories):
        own = schema.categories[category]
        cells = (f'{number}_{k}_1' if n in own else '-1_-1_-1' for k, n in enumerate(rows[0][2:]))
        rows.append([f'Images/{category}/{number}.jpg', category, *cells])
    return '\n'.join(map(','.join, rows)) + '\n'


def _submissions() -> Target:
    from preprocessing.datasets.fashionai import SCHEMA
    from utility.submissions import examine

    def read(path):
        examine.examine(path, SCHEMA).to_json()

    return Target((_table_text(SCHEMA).encode(),), read, True)


def _picture(file_format: str, mode: str = 'RGB', **options) -> bytes:
    import numpy as np
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
    import numpy as np
    import tensorflow as tf

    from preprocessing import faults, records
    from preprocessing.datasets import Annotation
    from preprocessing.datasets.fashionai import SCHEMA

    count = SCHEMA.num_keypoints
    points = np.ones([count, 2], np.float32)
    annotation = Annotation('a', 'a.jpg', 'skirt', points, np.ones(count, np.int32))
    example = records.encode_example(_picture('JPEG'), annotation, (_SIZE, _SIZE))
    serialized = tf.TensorSpec([], tf.string)
    decode = tf.function(lambda one: records.decode_example(one, SCHEMA), [serialized])

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
    from preprocessing.datasets.fashionai import SCHEMA

    sound = _records().sound[0]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'x')
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(3):
                writer.write(sound)
        content = Path(path).read_bytes()
    return Target((content,), lambda path: faults.check([str(path)], SCHEMA))


def _checkpoints(part: str) -> Target:
    import numpy as np

    from utility.checkpoints import bundles, variables

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
    import numpy as np
    import safetensors.numpy

    from utility.pretrained.files import open_weights

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
    from utility.checkpoints import runs

    def read(path):
        folder = Path(f'{path}_run')
        folder.mkdir(exist_ok=True)
        (folder / 'experiment.json').write_bytes(path.read_bytes())
        runs.load_experiment(str(folder))

    return Target((Experiment().to_json().encode(),), read, True)


def _descriptions() -> Target:
    from preprocessing import records
    from preprocessing.datasets.fashionai import SCHEMA

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
    from utility.checkpoints import step_tables

    def read(path):
        step_tables.read(str(path), skips=True)
        step_tables.read(str(path))

    return Target((b'step,loss,normalized_error\n10,0.5,1\n20,nan,\n',), read, True)


def _run_file(name: str, sound: bytes, read: Callable[[str], Any]) -> Target:
    """Return a reader of a file of a run; `read` is given the folder of a trained network."""
    import numpy as np

    from utility.checkpoints import variables

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
    from utility.checkpoints import evaluations

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
    from utility.train import starts

    sound = json.dumps([starts.describe()]).encode()
    return _run_file(starts.FILE, sound, starts.keep)


def _provenances() -> Target:
    from utility.checkpoints import runs

    def read(folder):
        start, precision = runs.init_checkpoint(folder), runs.precision_of(folder)
        if not all(isinstance(one, (str, type(None))) for one in (start, precision)):
            raise NonsenseError(f'{start!r}, {precision!r}')

    sound = json.dumps({'init_checkpoint': '/w/x.pth', 'precision': 'float32'}).encode()
    return _run_file(runs.PROVENANCE_FILE, sound, read)


def _pointers() -> Target:
    from utility.checkpoints import files

    def read(folder):
        prefix = files.usable(folder)
        if os.path.dirname(prefix) != folder:
            raise NonsenseError(f'{prefix} is out of {folder}')

    return _run_file('checkpoint', _POINTER, read)


def _exported() -> Target:
    from preprocessing.datasets.fashionai import SCHEMA
    from utility.predict import api
    from utility.predict.exported import standalone

    sound = {
        'version': standalone.FORMAT_VERSION, 'format': 'onnx', 'files': ['model.json'],
        'install': 'onnxruntime', 'dataset': 'fashionai', 'keypoints': SCHEMA.keypoints[:3],
        'categories': {'blouse': SCHEMA.keypoints[:3]}, 'swaps': [list(SCHEMA.keypoints[:2])],
        'normalizers': {'blouse': list(SCHEMA.keypoints[:2])}, 'image_size': [64, 48],
    }  # fmt: skip

    def read(folder):
        api.schema_of_export(standalone.read_description(folder))

    return _run_file(standalone.DESCRIPTION_FILE, json.dumps(sound).encode(), read)


def _data_set(name: str, file: str) -> Target:
    """Return the reader of a format of data sets; `file` of a sound one is what is changed."""
    import tensorflow  # noqa: F401  now, and not while the first input is read

    from benchmarks.common import tiny_formats
    from preprocessing.datasets import DATASETS, Source

    spec, content = DATASETS.get(name), tiny_formats.files(name)

    def read(path):
        folder = Path(f'{path}_data')
        for own, text in {**content, file: path.read_bytes()}.items():
            (folder / own).parent.mkdir(parents=True, exist_ok=True)
            (folder / own).write_bytes(text)
        schema, splits = spec.open(Source(str(folder)))
        for split in splits:
            for one in split.annotations():
                problem = tiny_formats.nonsense(one, schema, str(folder))
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
_WORDS = (
    '', '-1', '0', '1e400', '-0.0', 'nan', 'inf', '9' * 30, '9' * 5000, 'null', 'none', 'true',
    '{}', '[]', '{[]: 1}', '{1: 2}', '"', "'", '\0', '\ud7ff', '衣', '\r', '\n', ',', '|', '=', '(',
    ')', '(' * 300, '[' * 5000, '-' * 5000, '../../etc', '_', '.', ':', ' ', '*', '\\', '%s',
    '{height}',
)  # fmt: skip


def _inputs(target: Target):
    """Return a Hypothesis strategy of contents of the file."""
    from hypothesis import strategies as st

    def changed(sound: bytes):
        places = st.integers(0, len(sound))
        pieces = st.one_of(st.binary(max_size=8), st.sampled_from(sound).map(lambda b: bytes([b])))
        if target.text:
            words = st.sampled_from(_WORDS).map(str.encode)
            pieces = st.one_of(pieces, words, words)
        edits = st.tuples(places, st.integers(0, 12), pieces)
        return st.lists(edits, min_size=1, max_size=6).map(functools.partial(_edited, sound))

    return st.one_of(
        *map(changed, target.sound),
        st.sampled_from(target.sound).flatmap(
            lambda s: st.integers(0, len(s)).map(lambda n: s[:n])
        ),
        st.binary(max_size=300),
    )


def _edited(sound: bytes, edits) -> bytes:
    for place, removed, inserted in edits:
        sound = sound[:place] + inserted + sound[place + removed :]
    return sound


def _work(name: str, seed: int, seconds: float, results) -> None:
    """Read inputs of one kind for a time; tell of each before and after."""
    import hypothesis

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    target = TARGETS[name]()
    until = time.time() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'input')

        def read(data):
            if time.time() > until:
                return
            results.put(('begin', data))
            path.write_bytes(data)
            outcome = _outcome(target, path)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            results.put((*outcome, memory))

        while time.time() < until:
            seed += 1
            settings = hypothesis.settings(
                max_examples=_EXAMPLES,
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            hypothesis.seed(seed)(settings(hypothesis.given(_inputs(target))(read)))()
    results.put(('end', None))


def _outcome(target: Target, path: Path) -> tuple[str, str]:
    try:
        target.read(path)
    except (UserError, OSError) as error:
        many = '\n' in str(error).strip() and not isinstance(error, UserError)
        return ('traceback', repr(error)) if many else ('refused', '')
    except Exception as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        return 'traceback', f'{error!r} at {place.filename}:{place.lineno}'[-600:]
    return 'accepted', ''


def run(name: str, seconds: float, seed: int, patience: float) -> dict[str, Any]:
    """Read inputs of one kind for a time; what came of them."""
    counts: dict[str, Any] = dict.fromkeys(_COUNTED, 0)
    counts.update(memory=0, found=[])
    context, start = multiprocessing.get_context('spawn'), time.time()
    while seconds > 0:
        results = context.SimpleQueue()
        worker = context.Process(target=_work, args=(name, seed, seconds, results), daemon=True)
        worker.start()
        seed += 1_000_000
        if _follow(worker, results, counts, patience):
            break
        seconds -= time.time() - start
        start = time.time()
    return counts


def _follow(worker, results, counts: dict[str, Any], patience: float) -> bool:
    """Count what a worker tells until it ends; whether it ended by itself."""
    data, start = None, time.time()
    while True:
        if not results.empty():
            kind, *told = results.get()
            start = time.time()
            if kind == 'end':
                worker.join()
                return True
            if kind == 'begin':
                data = told[0]
                continue
            data = None
            counts['inputs'] += 1
            counts['refused'] += kind == 'refused'
            counts['memory'] = max(counts['memory'], told[1])
            if kind == 'traceback':
                counts['tracebacks'] += 1
                _note(counts, told[0])
        elif not worker.is_alive():
            counts['deaths'] += 1
            _note(counts, f'exit code {worker.exitcode} at {data!r:.300}')
            return False
        elif data is not None and time.time() - start > patience:
            counts['hangs'] += 1
            _note(counts, f'longer than {patience:g} s at {data!r:.300}')
            worker.kill()
            worker.join()
            return False
        else:
            time.sleep(0.005)


def _note(counts: dict[str, Any], text: str) -> None:
    if len(counts['found']) < _SHOWN:
        counts['found'].append(text)


def page(values: flags.FlagValues, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what was counted as a page, Markdown."""
    names = ('minutes', 'targets', 'seed', 'patience')
    where = report.surroundings()
    about = (
        f'# Damaged and made-up files\n\nMade by `{ledger.command(_COMMAND, names, values)}`.\n'
        f'{where["machine"]}, {where["versions"]}; revision {where["revision"]}.\n\n'
        'Inputs are files in which bytes or words were changed, and random ones. Each was read as '
        'it is, or refused\nin a sentence; what is neither is counted: tracebacks (what is accepted'
        f' and cannot be is one, too), inputs\nthat took longer than {values.patience:g} s, and '
        'processes that died. MB is the most memory of a process,\nof which TensorFlow alone takes '
        'some 500.\n\n'
    )
    lines = [[name, *_cells(row)] for name, row in rows.items()]
    sums = {key: sum(row[key] for row in rows.values()) for key in _COUNTED}
    most = max(row['memory'] for row in rows.values())
    return about + ledger.markdown_table(
        _HEADER, [*lines, ['all', *_cells({**sums, 'memory': most})]]
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [f'{n:,}' for n in (*(row[key] for key in _COUNTED), row['memory'] >> 20)]


def _define_flags() -> None:
    flags.DEFINE_float('minutes', 10, 'For all kinds together.', 0.01)
    flags.DEFINE_list('targets', list(TARGETS), 'Kinds of files to read.')
    flags.DEFINE_integer('seed', 0, 'Of the inputs.')
    flags.DEFINE_float('patience', 20, 'Seconds after which an input is a hang.', 1)
    flags.DEFINE_string('output_json', None, 'Where the counts go.')
    ledger.define_output('Markdown file for the counts, too.')


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    for name in values.targets:
        if name not in TARGETS:
            raise UserError(f'--targets: unknown kind {name!r}; there are: {", ".join(TARGETS)}')
    environment.hide_gpus()
    seconds = 60 * values.minutes / len(values.targets)
    rows = {}
    print(''.join(f'{title:>21}' if title == 'kind' else f'{title:>11}' for title in _HEADER))
    for name in values.targets:
        counts = rows[name] = run(name, seconds, values.seed, values.patience)
        print(f'{name:>21}' + ''.join(f'{cell:>11}' for cell in _cells(counts)))
        for text in counts['found']:
            print(f'    {text}', flush=True)
    total = sum(row['inputs'] for row in rows.values())
    print(f'{total:,} inputs')
    if values.output:
        write_bytes(values.output, page(values, rows).encode())
    if values.output_json:
        write_bytes(values.output_json, (json.dumps(rows, indent=2) + '\n').encode())
    if any(
        row['tracebacks'] + row['hangs'] + row['deaths'] or row['memory'] > _MOST_BYTES
        for row in rows.values()
    ):
        sys.exit('error: something was found')


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
