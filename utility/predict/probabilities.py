"""The probabilities that networks tell: how they are scaled, and how they are written.

`eval_metrics.py --calibrate` writes a file beside the checkpoints of a network, which every later
prediction with the network scales its probabilities by.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from config import UserError
from nets.heads.attributes import PRESENCES
from preprocessing.files import csv_bytes, read_bytes, write_bytes
from preprocessing.schema import KeypointSchema
from utility.checkpoints import runs
from utility.metrics.attributes import scored_presence
from utility.statistics.reliability import Scaling, fit_scaling

SCALINGS_FILE = 'probabilities.json'
_LEAST = 1e-7  # as in utility.statistics.reliability


def read(folder: str) -> dict[str, Scaling]:
    """Return the scaling of 'category_probabilities' and of 'presence' of a network, if there is.

    Raises:
        UserError: The file is broken.
    """
    path = os.path.join(folder, SCALINGS_FILE)
    if not tf.io.gfile.exists(path):
        return {}
    try:
        values = json.loads(read_bytes(path))['scalings']
        return {name: Scaling.from_json(own) for name, own in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is broken: {error!r}; remove it, or fit it anew') from error


def scaled(probabilities: tf.Tensor, scaling: Scaling | None) -> tf.Tensor:
    """Return probabilities [.., k] as Scaling gives them; unchanged without one."""
    if scaling is None:
        return probabilities
    logs = tf.math.log(tf.maximum(probabilities, _LEAST))
    return tf.nn.softmax(logs / scaling.temperature + tf.constant(scaling.bias, tf.float32))


def fit_run(
    run_dirs: Sequence[str], predictions: Any, answers: Any, schema: KeypointSchema, source: str
) -> list[str]:
    """Fit the scalings of a run's networks on pictures that they were not trained on; write them.

    Args:
        run_dirs: The run.
        predictions: What it gives for the pictures, with the scalings that it has by now.
        answers: The annotations, in the same order.
        schema: Of both.
        source: Where the pictures are, for the file.

    Returns:
        The files written.

    Raises:
        UserError: There are several runs, or the networks tell neither category nor presence.
    """
    if len(run_dirs) != 1:
        raise UserError('--calibrate needs one run in --model_dir')
    if predictions.category_probabilities is None and predictions.presence is None:
        raise UserError('--calibrate: the networks tell neither category nor presence')
    written = []
    folders = runs.networks_for(run_dirs[0], sorted(set(answers.categories)))
    for folder, categories in folders.items():
        rows = np.flatnonzero(np.isin(answers.categories, categories))
        fitted = _fitted(predictions, answers, schema, rows)
        before = read(folder)
        after = {name: own.after(before[name]) if name in before else own for name, own in fitted}
        values = {name: dataclasses.asdict(scaling) for name, scaling in after.items()}
        content = {'scalings': values, 'fitted_on': source, 'images': len(rows)}
        written.append(os.path.join(folder, SCALINGS_FILE))
        write_bytes(written[-1], (json.dumps(content, indent=2) + '\n').encode())
    return written


def _fitted(predictions, answers, schema: KeypointSchema, rows: np.ndarray):
    """Yield the name of what is told and its Scaling by these rows."""
    categories = answers.categories[rows]
    if predictions.category_probabilities is not None:
        names = np.array(list(schema.categories))
        given = (names == categories[:, np.newaxis]).argmax(axis=1)
        fitted = fit_scaling(predictions.category_probabilities[rows], given)
        yield 'category_probabilities', fitted
    if predictions.presence is not None:
        own = (predictions.presence[rows], answers.visibility[rows], categories, schema)
        told, outcomes, _ = scored_presence(*own)
        yield 'presence', fit_scaling(told, outcomes)


def table(predictions: Any, schema: KeypointSchema) -> bytes:
    """Return what networks tell of pictures as CSV: a row a picture, a column a probability.

    The columns: image_id, image_category; of each category category_NAME; of each point
    NAME_absent, NAME_occluded and NAME_visible, empty where the picture's category has none.

    Args:
        predictions: A predictor.Predictions that has any of the two.
        schema: Of them.
    """
    header, shares, presence = ['image_id', 'image_category'], [], []
    if predictions.category_probabilities is not None:
        header += [f'category_{name}' for name in schema.categories]
        shares = predictions.category_probabilities
    if predictions.presence is not None:
        header += [f'{name}_{one}' for name in schema.keypoints for one in PRESENCES]
        presence = predictions.presence
    rows = [header]
    for row, (image_id, category) in enumerate(zip(predictions.image_ids, predictions.categories)):
        cells = [image_id, category]
        if len(shares):
            cells += [f'{share:.4f}' for share in shares[row]]
        if len(presence):
            own = predictions.visibility[row] >= 0
            for point, is_own in zip(presence[row], own):
                cells += [f'{share:.4f}' if is_own else '' for share in point]
        rows.append(cells)
    return csv_bytes(rows)
