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

import numpy as np
from absl import flags, logging

from benchmarks.common.isolated import describe_machine
from preprocessing import files
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.metrics import normalized_error
from utility.metrics.annotations import annotations_of
from utility.statistics import bootstrap

VAL_FRACTION = 0.2
CELLS_FILE = 'cells.json'


def load(path: str) -> dict[str, Any]:
    """Return a JSON file; one that is not there is empty."""
    return json.loads(Path(path).read_text()) if os.path.exists(path) else {}


def save(path: str, values: dict[str, Any]) -> None:
    files.write_bytes(path, files.json_bytes(values))


def keep(path: str, key: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Add what is measured to a JSON file, unless it is there already."""
    if key not in load(path):
        logging.info('training: %s', key)
        row = measure()
        save(path, {**load(path), key: row})
        if 'plain_sums' in row:  # of `scores`
            logging.info('%s: NE %.2f %%', key, 100 * error_of(row, 'plain'))


def converted(values: flags.FlagValues) -> str:
    """Return the records of the pictures of --data_dir, kept in --work_dir."""
    os.makedirs(values.work_dir, exist_ok=True)
    return records_of(os.path.join(values.work_dir, 'records'), values.data_dir)


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
    """Return records of one category, as links to those of all; `all`: these themselves."""
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
    """Return normalized distances [N, K] of runs on a labelled split, NaN where not scored.

    Args:
        run_dirs: Predict as one.
        options: A utility.predict.views_to_points.PredictOptions; None: the defaults.
        watch: The on_row of utility.predict.predictor.predict_split.
    """
    from utility.predict import predictor
    from utility.predict.views_to_points import PredictOptions

    schema = runs.schema_of(run_dirs[0])
    annotations = annotations_of(split_dir, schema)
    annotations = annotations._replace(image_ids=annotations.lines)  # an id may be in two splits
    options = options or PredictOptions()
    predictions = predictor.predict_split(run_dirs, split_dir, options, watch)
    predicted = annotations._replace(keypoints=predictions.keypoints)
    return normalized_error.distances_to(annotations, predicted, schema, 'error')[0]


def scores(run_dir: str, split_dir: str) -> dict[str, Any]:
    """Return sums of a run's distances and numbers of points, of each picture, as plain values.

    They are called plain_sums, plain_counts and, with the flip test, flip_sums, flip_counts.
    """
    from utility.predict.views_to_points import PredictOptions

    row: dict[str, Any] = {'machine': describe_machine()}
    for name, flip_test in (('plain', False), ('flip', True)):
        values = distances([run_dir], split_dir, PredictOptions(flip_test=flip_test))
        row[f'{name}_sums'] = np.nansum(values, axis=1).tolist()
        row[f'{name}_counts'] = np.isfinite(values).sum(axis=1).tolist()
    return row


def counts_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a page tells of the pictures that a row of `scores` is of."""
    counts = row['plain_counts']
    return {'images': sum(map(bool, counts)), 'points': sum(counts), 'machine': row['machine']}


def counts_of_distances(scored) -> dict[str, Any]:
    """Return the same of distances [N, K], NaN where not scored, and of this machine."""
    known = np.isfinite(scored)
    images, points = int(known.any(axis=1).sum()), int(known.sum())
    return {'images': images, 'points': points, 'machine': describe_machine()}


def error_cells(measured, digits: int) -> list[str]:
    """Return cells of a table: NE of distances [N, K] in percent, and its interval."""
    value, low, high = (100 * end for end in bootstrap.ne_interval(measured))
    return [f'{value:.{digits}f}', f'[{low:.2f}, {high:.2f}]']


def difference_cells(measured, base, digits: int) -> list[str]:
    """Return cells of a table: how much NE differs from that of others, in points, and p."""
    comparison = bootstrap.compare(measured, base)
    difference = 100 * comparison.difference.value
    return [f'{difference:+.{digits}f}', f'{comparison.p_value:.4f}']


def error_of(row: dict[str, Any], name: str) -> float:
    """Return NE, a fraction, of what `scores` gave: 'plain', or with the 'flip' test."""
    return sum(row[f'{name}_sums']) / sum(row[f'{name}_counts'])
