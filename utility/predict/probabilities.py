"""The probabilities that networks tell: how they are scaled, and how they are written.

`eval_metrics.py --calibrate` writes a file beside the checkpoints of a network, which every later
prediction with the network scales its probabilities by.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from config import UserError
from nets.heads.attributes import PRESENCES
from preprocessing.files import csv_bytes, json_bytes, read_bytes, write_bytes
from preprocessing.schema import KeypointSchema
from utility.checkpoints import runs
from utility.metrics.attributes import presence_group, scored_presence
from utility.statistics.reliability import (
    GroupScalings,
    Scaling,
    fit_group_scalings,
    fit_scaling,
)

_KINDS = {'category_probabilities': Scaling, 'presence': GroupScalings}  # of what is told
SCALINGS_FILE = 'probabilities.json'
# What reading other JSON raises.
_NO_SCALINGS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_LEAST = 1e-7  # as in utility.statistics.reliability


def read(folder: str) -> dict[str, Scaling | GroupScalings]:
    """Return the scalings of 'category_probabilities' and 'presence' of a network, if any.

    Raises:
        UserError: The file is broken.
    """
    path = os.path.join(folder, SCALINGS_FILE)
    if not tf.io.gfile.exists(path):
        return {}
    try:
        values = json.loads(read_bytes(path))['scalings']
        return {name: _KINDS[name].from_json(own) for name, own in values.items()}
    except _NO_SCALINGS as error:
        raise UserError(f'{path} is broken: {error!r}; remove it, or fit it anew') from error


def scaled(
    told: Mapping[str, tf.Tensor],
    scalings: Mapping[str, Scaling | GroupScalings],
    schema: KeypointSchema,
    category: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return what a network tells, as its scalings give it; unchanged without any.

    Args:
        told: 'category_probabilities' [B, C] and 'presence' [B, K, 3], as far as it tells them.
        scalings: Of a network, see `read`.
        category: int32 [B], what the pictures show, places in schema.categories. None, or -1: the
            likeliest category, if it is told.
    """
    result = dict(told)
    first, groups = (scalings.get(name) for name in _KINDS)
    if first and 'category_probabilities' in told:
        _check_biases([first], len(schema.categories))
        parts = first.temperature, tf.constant(first.bias, tf.float32)
        result['category_probabilities'] = _softened(told['category_probabilities'], *parts)
    if groups and 'presence' in told:
        _check_biases([groups.pooled, *groups.groups.values()], len(PRESENCES))
        number = likeliest(result, schema, category)
        table = _table(groups, schema)
        temperature, bias = (tf.gather(tf.constant(own), number) for own in table)
        result['presence'] = _softened(told['presence'], temperature, bias)
    return result


def _check_biases(scalings: Iterable[Scaling], count: int) -> None:
    """Refuse scalings of another number of outcomes than a network tells.

    Raises:
        UserError: One is.
    """
    for one in scalings:
        if len(one.bias) != count:
            raise UserError(
                f'{SCALINGS_FILE} has {len(one.bias)} biases where there are {count} outcomes; '
                'remove it, or fit it anew'
            )


def likeliest(
    told: Mapping[str, tf.Tensor], schema: KeypointSchema, category: tf.Tensor | None
) -> tf.Tensor:
    """Return int32 [B], places in schema.categories; its length where neither given nor told."""
    batch = tf.shape(next(iter(told.values())))[0]
    count = len(schema.categories)
    if 'category_probabilities' in told:
        best = tf.argmax(told['category_probabilities'], axis=1, output_type=tf.int32)
    else:
        best = tf.fill([batch], count if count > 1 else 0)
    return best if category is None else tf.where(category < 0, best, category)


def _softened(probabilities: tf.Tensor, temperature, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(tf.math.log(tf.maximum(probabilities, _LEAST)) / temperature + bias)


def _table(groups: GroupScalings, schema: KeypointSchema) -> tuple[np.ndarray, np.ndarray]:
    """Return temperatures [C + 1, K, 1] and biases [C + 1, K, 3], float32; of no category last."""
    rows = [
        [
            groups.of(presence_group(category, k, schema)) if category else groups.pooled
            for k in range(schema.num_keypoints)
        ]
        for category in (*schema.categories, None)
    ]
    temperatures = [[[one.temperature] for one in row] for row in rows]
    biases = [[one.bias for one in row] for row in rows]
    return np.array(temperatures, np.float32), np.array(biases, np.float32)


def fit_run(
    run_dirs: Sequence[str], predictions: Any, answers: Any, schema: KeypointSchema, source: str
) -> list[str]:
    """Fit the scalings of a run's networks on pictures that they were not trained on; write them.

    Args:
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
        write_bytes(written[-1], json_bytes(content))
    return written


def _fitted(predictions, answers, schema: KeypointSchema, rows: np.ndarray):
    """Yield the name of what is told and its scaling by these rows."""
    categories = answers.categories[rows]
    if predictions.category_probabilities is not None:
        names = np.array(list(schema.categories))
        given = (names == categories[:, np.newaxis]).argmax(axis=1)
        fitted = fit_scaling(predictions.category_probabilities[rows], given)
        yield 'category_probabilities', fitted
    if predictions.presence is not None:
        own = (predictions.presence[rows], answers.visibility[rows], categories, schema)
        scored = scored_presence(*own)
        yield 'presence', fit_group_scalings(scored.told, scored.outcomes, scored.groups)


def table(predictions: Any, schema: KeypointSchema) -> bytes:
    """Return what networks tell of pictures as CSV: a row a picture, a column a probability.

    The columns: image_id, image_category; of each category category_NAME; of each point
    NAME_absent, NAME_occluded and NAME_visible, empty where the picture's category has none.

    Args:
        predictions: A predictor.Predictions that has any of the two.
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
