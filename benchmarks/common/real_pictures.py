"""Trainings on a sample of real pictures: records, one command, scores, and a file that keeps them.

A fifth of the sample, by a hash of its content, is for validation: the same one in each benchmark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.isolated import describe_machine
from utility.command_line import scripts

VAL_FRACTION = 0.2
CELLS_FILE = 'cells.json'


def load(path: str) -> dict[str, Any]:
    """Return a JSON file; one that is not there is empty."""
    return json.loads(Path(path).read_text()) if os.path.exists(path) else {}


def save(path: str, values: dict[str, Any]) -> None:
    from preprocessing.files import write_bytes

    write_bytes(path, json.dumps(values, indent=1).encode())


def run(words: Sequence[str], task: str) -> float:
    """Run a Python script of the project, `words` its name and its flags; seconds that it took.

    Raises:
        RunError: It failed; `task` was to be done.
    """
    start = time.time()
    if subprocess.run([sys.executable, *words], check=False).returncode:
        raise scripts.RunError(f'{task} failed; see above')
    return time.time() - start


def records_of(records_dir: str, data_dir: str, val_fraction: float = VAL_FRACTION) -> str:
    """Return the records of the data, converted if they are not there."""
    if not os.path.exists(os.path.join(records_dir, 'dataset.json')):
        words = [f'--data_dir={data_dir}', f'--records_dir={records_dir}']
        words += [f'--val_fraction={val_fraction}']
        run(['convert_tfrecords.py', *words], f'the conversion of {data_dir}')
    return records_dir


def of_category(records_dir: str, category: str) -> str:
    """Return records of one category, whose files are links to those of all; `all`: these
    themselves.
    """
    if category == 'all':
        return records_dir
    path = f'{records_dir}_{category}'
    if os.path.exists(os.path.join(path, 'dataset.json')):  # written last
        return path
    info = load(os.path.join(records_dir, 'dataset.json'))
    for name, split in info['splits'].items():
        folder = os.path.join(path, name)
        os.makedirs(folder, exist_ok=True)
        for key in ('records', 'shards', 'bytes'):
            split[key] = {category: split[key].get(category, 0)}
        for entry in os.scandir(os.path.join(records_dir, name)):
            link = os.path.join(folder, entry.name)
            if entry.name.startswith(f'{category}-') and not os.path.lexists(link):
                os.symlink(os.path.abspath(entry.path), link)
    save(os.path.join(path, 'dataset.json'), info)
    return path


def part_of(
    records_dir: str, target: str, positions_of: Callable[[str, Sequence[bytes]], Sequence[int]]
) -> str:
    """Return records with some of the training pictures, and all for validation, as links.

    Args:
        records_dir: The records.
        target: Where the part is written, if it is not there.
        positions_of: Category and its serialized examples -> which of them are in the part.
    """
    if os.path.exists(os.path.join(target, 'dataset.json')):
        return target
    import tensorflow as tf

    from preprocessing import records

    info = load(os.path.join(records_dir, 'dataset.json'))
    split = info['splits']['train']
    source, folder = (os.path.join(path, 'train') for path in (records_dir, target))
    os.makedirs(folder, exist_ok=True)
    counts, sizes = {}, {}
    for category in split['records']:
        files = records.record_files(records.split_patterns(source, category))
        examples = list(tf.data.TFRecordDataset(files).as_numpy_iterator())
        positions = positions_of(category, examples)
        path = records.shard_path(folder, category, 0, 1)
        with records.shard_writer(path) as write:
            for position in positions:
                write(examples[position])
        counts[category], sizes[category] = len(positions), [os.path.getsize(path)]
    split.update(records=counts, shards=dict.fromkeys(counts, 1), bytes=sizes)
    split.pop('points', None)  # of all pictures
    info['splits'] = {'train': split, 'val': info['splits']['val']}
    link = os.path.join(target, 'val')
    if not os.path.lexists(link):
        os.symlink(os.path.abspath(os.path.join(records_dir, 'val')), link)
    save(os.path.join(target, 'dataset.json'), info)
    return target


def number_of(records_dir: str, split: str) -> int:
    """Return how many records a split has."""
    splits = load(os.path.join(records_dir, 'dataset.json'))['splits']
    return sum(splits[split]['records'].values())


def distances(run_dirs: Sequence[str], split_dir: str, options=None, watch=None):
    """Return normalised distances [N, K] of runs on a labelled split, NaN where not scored.

    Args:
        run_dirs: Predict as one.
        split_dir: Of the records.
        options: A utility.predict.views_to_points.PredictOptions; None: the defaults.
        watch: The on_row of utility.predict.predictor.predict_split.
    """
    from utility.checkpoints import runs
    from utility.metrics import normalized_error
    from utility.metrics.annotations import annotations_of
    from utility.predict import predictor
    from utility.predict.views_to_points import PredictOptions

    schema = runs.schema_of(run_dirs[0])
    annotations, _ = annotations_of(split_dir, schema)
    annotations = annotations._replace(image_ids=annotations.lines)  # an id may be in two splits
    options = options or PredictOptions()
    predictions = predictor.predict_split(run_dirs, split_dir, options, watch)
    predicted = annotations._replace(keypoints=predictions.keypoints)
    return normalized_error.distances_to(annotations, predicted, schema, 'error')[0]


def scores(run_dir: str, split_dir: str) -> dict[str, Any]:
    """Return sums of a run's distances and numbers of points, of each picture, as plain values.

    They are called plain_sums, plain_counts and, with the flip test, flip_sums, flip_counts.
    """
    import numpy as np

    from utility.predict.views_to_points import PredictOptions

    row: dict[str, Any] = {'machine': describe_machine()}
    for name, flip_test in (('plain', False), ('flip', True)):
        values = distances([run_dir], split_dir, PredictOptions(flip_test=flip_test))
        row[f'{name}_sums'] = np.nansum(values, axis=1).tolist()
        row[f'{name}_counts'] = np.isfinite(values).sum(axis=1).tolist()
    return row


def error_of(row: dict[str, Any], name: str) -> float:
    """Return NE, a fraction, of what `scores` gave: 'plain', or with the 'flip' test."""
    return sum(row[f'{name}_sums']) / sum(row[f'{name}_counts'])
