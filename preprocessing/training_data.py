"""What a training reads: which networks its records allow, and their batches."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from absl import logging

from config import ALL_THEN_EACH, DataConfig, Experiment, UserError
from preprocessing import faults, make_input_fn, records, schema_files
from preprocessing.conversion import integrity
from preprocessing.datasets import DATASETS, schema_of
from preprocessing.input_fn import LateOps
from preprocessing.ops import op_string
from preprocessing.stream import Order

SPLITS = ('train', 'val')


def categories(experiment: Experiment, data_dir: str, asked: str) -> list[str]:
    """Return the networks that `asked` stands for: 'each' with records, 'all', or a list.

    'all_then_each' is 'all' and each category that has records.

    Raises:
        UserError: One of them has no records to train with.
    """
    schema = schema_of(experiment.data)
    counts = count(data_dir, experiment)['train']
    if asked in ('each', ALL_THEN_EACH):
        names = [name for name in schema.categories if counts.get(name)]
        absent = [name for name in schema.categories if name not in names]
        if absent and names:
            logging.warning('%s has no %s', data_dir, ', '.join(absent))
        names = ['all', *names] if asked == ALL_THEN_EACH else names
    else:
        names = [name.strip() for name in asked.split(',')]
    for name in names or ['all']:
        if not num_records(counts, schema.subset(name)):
            raise UserError(f'{data_dir} has no pictures of {name} to train with')
    return names


def for_records(experiment: Experiment, data_dir: str) -> Experiment:
    """Return the experiment on these records: it takes their data set, schema and boxes.

    A data set that is named is kept, and found to be another one by `count`.

    Raises:
        UserError: There are no records.
    """
    info, data = records.load_dataset_info(data_dir), experiment.data
    if data.dataset == DataConfig().dataset:
        data = dataclasses.replace(data, dataset=info['dataset'])
    if data.dataset == info['dataset'] and DATASETS.get(data.dataset).schema is None:
        described = schema_files.describe(records.schema_of(info))
        data = dataclasses.replace(data, schema=described)
    if data.crop_boxes and any(split.get('boxes') for split in info['splits'].values()):
        data = dataclasses.replace(
            data,
            train_ops=_cropped(data.train_ops),
            eval_ops=_cropped(data.eval_ops, unless=('crop_box',)),
            late_ops=data.late_ops and _cropped(data.late_ops),
        )
    return dataclasses.replace(experiment, data=data)


def _cropped(ops: str, unless: tuple[str, ...] = ('crop_box', 'crop_points')) -> str:
    """Return the op string with a crop to the box before it, unless it has one of these ops."""
    return ops if any(op in ops for op in unless) else f'crop_box|{ops}'


def count(data_dir: str, experiment: Experiment) -> dict[str, dict[str, int]]:
    """Return the number of records by split and category; a split that is not there has none."""
    info = records.load_dataset_info(data_dir)
    if info['dataset'] != experiment.data.dataset:
        raise UserError(
            f'{data_dir} holds records of {info["dataset"]!r}, '
            f'but data.dataset={experiment.data.dataset!r}'
        )
    if records.schema_of(info) != schema_of(experiment.data):
        raise UserError(f'{data_dir} holds records of another keypoint schema than data.schema')
    return {name: info['splits'].get(name, {}).get('records', {}) for name in SPLITS}


def num_records(counts: Mapping[str, int], schema) -> int:
    """Return how many pictures of `counts` belong to the categories of the schema."""
    return sum(counts.get(category, 0) for category in schema.categories)


def warn_of_absent_points(experiment: Experiment, data_dir: str) -> None:
    """Warn where dataset.json tells of no point that counts, to train or to validate with."""
    info = records.load_dataset_info(data_dir)
    schema = schema_of(experiment.data).subset(experiment.data.category)
    counting = ('visible',) if experiment.loss.points == 'visible' else ('visible', 'occluded')
    consequences = {
        'train': (counting, f'with loss.points={experiment.loss.points} nothing can be learned'),
        'val': (('visible',), 'validation has no NE'),
    }
    for split, (states, consequence) in consequences.items():
        points = _points(info['splits'].get(split, {}), schema)
        if points and not any(points.get(state) for state in states):
            numbers = ', '.join(f'{number} {state}' for state, number in points.items())
            logging.warning(
                '%s/%s has no %s point of %s (%s): %s',
                data_dir, split, ' or '.join(states), experiment.data.category, numbers,
                consequence,
            )  # fmt: skip


def _points(split: Mapping, schema) -> dict[str, int]:
    """Return state -> number of points of a split in the schema's categories, if known."""
    by_category = split.get(records.CATEGORY_POINTS, {})
    own = [points for category, points in by_category.items() if category in schema.categories]
    return {state: sum(one[state] for one in own) for state in (own[0] if own else ())}


def check_records(experiment: Experiment, data_dir: str, reads: bool = False) -> None:
    """Look for record files that are missing or in pieces; see conversion/integrity.py.

    Raises:
        UserError: There are some; names the first.
    """
    category = experiment.data.category
    schema = schema_of(experiment.data).subset(category)
    for split, counts in count(data_dir, experiment).items():
        if num_records(counts, schema):  # a category may have no validation pictures
            split_dir = os.path.join(data_dir, split)
            integrity.check_split(split_dir, category, reads)
            if reads:
                paths = records.record_files(records.split_patterns(split_dir, category))
                faults.check(paths, schema)


def input_fn(
    experiment: Experiment,
    schema,
    data_dir: str,
    step: int | None = None,
    total_steps: int = 0,
    augment_on: str = 'host',
):
    """Return the input_fn of a training from the global step `step` on; None: of the evaluations.

    Wherever a training begins or goes on, the batch of a step is the same.

    Args:
        step: Batches of each replica before the first.
        total_steps: Of the training, of which data.late_from is a share; 0: data.late_ops, if there
            are any, hold from the start.
        augment_on: Where the pictures of a training are made; those of evaluations: on the host.

    Raises:
        UserError: An op string is wrong, or its pictures do not fit the network.
    """
    data, training = experiment.data, step is not None
    split, ops = ('train', data.train_ops) if training else ('val', data.eval_ops)
    split_dir, late_ops = os.path.join(data_dir, split), data.late_ops if training else ''
    for one in filter(None, (ops, late_ops)):
        _check_size(one, experiment)
    late = None
    if late_ops:
        late = LateOps(experiment.resolved_ops(late_ops), round(data.late_from * total_steps))
    return make_input_fn(
        records.split_patterns(split_dir, data.category),
        schema,
        experiment.resolved_ops(ops),
        data.batch_size,
        training=training,
        seed=experiment.seed,
        order=Order(
            data.shuffle_buffer, records.count_records(split_dir, data.category), step or 0
        ),
        late=late,
        augment_on=augment_on if training else 'host',
    )


def _check_size(ops: str, experiment: Experiment) -> None:
    size = op_string.picture_size(experiment.resolved_ops(ops))
    image_size = tuple(experiment.network.image_size)
    if size != image_size:
        raise UserError(
            f'op string {ops!r} gives pictures of {size}, but network.image_size={image_size}'
        )
