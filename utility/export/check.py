"""Exported folders against the networks that they were made of, over a split of the records."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing import records
from preprocessing.datasets import schema_of
from utility.checkpoints import runs
from utility.command_line.scripts import RunError
from utility.export.folder import SCRIPT, Comparison, weights_digest
from utility.metrics import normalized_error
from utility.metrics.annotations import annotations_of
from utility.predict import api
from utility.predict.exported import standalone

_BATCH_SIZE = 16
_MADE_OF = ('run', 'checkpoint', 'weights')  # names of a description
_NEAR = 4  # folders above an export in which its run is looked for


class Measured(NamedTuple):
    """What one way of predicting a split gave.

    Attributes:
        normalized_error: NE, a fraction.
        rate: Images per second once it has started, one process.
        start: Seconds from the start of the process to its first answer, without predicting it;
            NaN where no process was started.
    """

    normalized_error: float
    rate: float
    start: float


class Report(NamedTuple):
    """A folder beside the network that it was made of.

    Attributes:
        name: Format and precision.
        size: Of its files, bytes.
        file, network: What either gave; the network by utility.predict.api in batches of 16.
        distances: Between the points of both.
    """

    name: str
    size: int
    file: Measured
    network: Measured
    distances: Comparison

    def __str__(self) -> str:
        return '\n'.join(
            (
                f'{self.name}, {self.size / 1e6:.2f} MB',
                f'NE        {100 * self.file.normalized_error:.3f} %; the checkpoint '
                f'{100 * self.network.normalized_error:.3f} %',
                f'distances {self.distances}',
                f'rate      {self.file.rate:.1f} images/s, one a call; the network in TensorFlow, '
                f'{_BATCH_SIZE} a batch, {self.network.rate:.1f}',
                f'start-up  {self.file.start:.1f} s',
            )
        )


def check(
    folder: str, split_dir: str, run_dir: str | None = None, most: int | None = None
) -> Report:
    """Run a folder by its own script, in a process of its own, over a labelled split.

    Args:
        folder: That was exported.
        run_dir: The run that it was made of; None: it is looked for beside the folder.
        most: Images to take, spread over the split; None: all.

    Raises:
        UserError: The folder is damaged, its network is gone, or the split holds nothing that it
            knows.
        RunError: The script fails.
    """
    description = standalone.read_description(folder)
    network, checkpoint = _network_of(folder, description, run_dir)
    schema = schema_of(runs.load_experiment(network).data)
    answers = annotations_of(split_dir, schema)
    known = np.isin(answers.categories, list(description['categories']))
    if not known.any():
        raise UserError(f'{split_dir!r} holds no image of {", ".join(description["categories"])}')
    options = {'flip_test': description['flip_test'], 'refine': description['refine']}
    options.update(checkpoint=checkpoint, batch_size=_BATCH_SIZE)
    with tempfile.TemporaryDirectory() as directory:
        rows = np.flatnonzero(known)
        rows = rows[np.linspace(0, len(rows) - 1, min(most or len(rows), len(rows)), dtype=int)]
        paths = _write_images(split_dir, schema, directory, rows)
        scales = [_scale(path, answers.image_sizes[row]) for path, row in zip(paths, rows)]
        categories = answers.categories[rows]
        file, file_rate, start = _by_script(folder, paths, categories, schema)
        with api.load(network, **options) as model:
            ours, rate = _by_model(model, paths, categories, schema)
    table = type(answers)(*(values[rows] for values in answers))
    table = table._replace(image_ids=table.lines)  # told apart by place
    scaled = [points * np.array(scales)[:, None, None] for points in (file, ours)]
    tables = [table._replace(keypoints=np.nan_to_num(points)) for points in scaled]
    errors = [normalized_error.score(one, table, schema).normalized_error for one in tables]
    own = np.isfinite(file).all(-1) & np.isfinite(ours).all(-1)
    distances = Comparison.of(len(rows), np.linalg.norm(scaled[0] - scaled[1], axis=-1)[own])
    return Report(
        f'{description["format"]}, {description["precision"]}',
        sum(_size(os.path.join(folder, name)) for name in description['files']),
        Measured(errors[0], file_rate, start),
        Measured(errors[1], rate, np.nan),
        distances,
    )


def _network_of(folder: str, description, run_dir: str | None) -> tuple[str, str]:
    """Return the folder of the network that an export was made of, and its checkpoint.

    A folder knows the names alone. Without a run it is looked for in the current directory, in its
    logs, and beside the folder and the three above it; what has other weights is another.
    """
    for key, kind in (*dict.fromkeys(_MADE_OF, str).items(), ('flip_test', bool)):
        if not isinstance(description.get(key), kind):
            raise UserError(f'{folder!r} does not tell its {key!r}: export it again')
    name, checkpoint, digest = (description[key] for key in _MADE_OF)
    if run_dir:
        places = [run_dir, os.path.join(run_dir, os.path.basename(name))]
    else:
        above = [os.path.abspath(folder)]
        for _ in range(_NEAR):
            above.append(os.path.dirname(above[-1]))
        roots = [os.curdir, *above[1:]]
        places = [os.path.join(r, *logs, name) for r in roots for logs in ((), ('logs',))]
    for place in places:
        prefix = os.path.join(os.path.abspath(place), checkpoint)
        exists = os.path.exists(f'{prefix}.index')
        if exists and weights_digest(prefix) == digest:
            return place, prefix
    where = f'is not {run_dir!r}' if run_dir else 'was not found'
    raise UserError(
        f'{folder!r} was made of {name!r}, {checkpoint}, which {where}; give the run: '
        'python -m utility.export RUN --check=...'
    )


def _write_images(split_dir: str, schema, directory: str, rows: np.ndarray) -> list[str]:
    """Write the images of a split that are in those rows of annotations_of; their paths."""
    import tensorflow as tf

    files = records.record_files(records.split_patterns(split_dir, 'all'))
    dataset = records.decoded(tf.data.TFRecordDataset(files), schema)
    paths, categories = [], []
    for number, example in enumerate(dataset.as_numpy_iterator()):
        paths.append(os.path.join(directory, f'{number}.jpg'))
        categories.append(example['category'].decode())
        pathlib.Path(paths[-1]).write_bytes(example['encoded'])
    order = np.argsort(np.array(categories), kind='stable')  # as annotations_of has them
    return [paths[row] for row in order[rows]]


def _scale(path: str, size: np.ndarray) -> float:
    """Return the scale from px of what is stored of an image to px of the image."""
    from PIL import Image

    with Image.open(path) as image:
        return size[0] / image.height


def _size(path: str) -> int:
    inner = [os.path.join(root, name) for root, _, names in os.walk(path) for name in names]
    return sum(map(os.path.getsize, inner or [path]))


def _in_full(points: dict[str, Sequence[float]], schema) -> np.ndarray:
    """Return points by name as [K, 2] of the schema; NaN where there is none."""
    nowhere = (np.nan, np.nan)
    return np.array([points.get(name, nowhere)[:2] for name in schema.keypoints], np.float64)


def _by_script(folder: str, paths, categories, schema) -> tuple[np.ndarray, float, float]:
    """Return points [N, K, 2], images per second and start-up seconds of predict.py."""
    lines = ''.join(f'{category}\t{path}\n' for category, path in zip(categories, paths))
    command = [sys.executable, '-I', os.path.join(os.path.abspath(folder), SCRIPT), '-']
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile('w+') as errors:
        given.write(os.fsencode(lines))
        given.seek(0)
        found, seconds, start = [], [], 0.0
        with subprocess.Popen(
            command, stdin=given, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            for line in process.stdout:
                answer = json.loads(line)
                if not found:
                    start = time.perf_counter() - begin - answer['seconds']
                found.append(_in_full(answer['points'], schema))
                seconds.append(answer['seconds'])
        if process.returncode or len(found) != len(paths):
            errors.seek(0)
            reason = ' '.join(errors.read().split())[-300:]
            raise RunError(f'{folder}/{SCRIPT} fails after {len(found)} images: {reason}')
    # The first image takes longer than all others.
    return np.stack(found), 1 / np.mean(seconds[1:] or seconds), start


def _by_model(model: api.Model, paths, categories, schema) -> tuple[np.ndarray, float]:
    """Return points [N, K, 2] and images per second of the network in TensorFlow."""
    model.predict(paths[0], str(categories[0]))
    begin = time.perf_counter()
    results: Iterator[api.Keypoints] = model.predict_each(paths, list(map(str, categories)))
    found = [_in_full(dict(zip(result.names, result.points)), schema) for result in results]
    return np.stack(found), len(found) / (time.perf_counter() - begin)
