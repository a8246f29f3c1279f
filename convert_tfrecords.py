"""Annotations and pictures of every split -> sharded TFRecords, dataset.json and rejected.csv.

    python convert_tfrecords.py --data_dir=../Datasets
    python convert_tfrecords.py --data_dir=../Datasets --records_dir=FOLD0 --folds=5 --fold=0
    python convert_tfrecords.py --data_dir=../Datasets --corrections=audit/corrections.csv
    python convert_tfrecords.py --data_dir=MINE --dataset=csv --schema=MINE/schema.json
    python convert_tfrecords.py --inspect=RECORDS

The first writes pictures of labelled splits to RECORDS/train and RECORDS/val, those of each test
split to a directory of its own. The result depends on the data and the flags, not on the number of
processes; an interrupted run can be started again.

With --folds a fifth, here, of the pictures is for validation, another one for each --fold; equal
pictures are in one fold. With --corrections points are other than the annotations say, which stay
as they are (see eval_labels.py).

The last reads what the others have written: it counts records, points, sizes and colors, and draws
plain.jpg and augmented.jpg, pictures with their points as they are and as they are trained. It
exits with 1 if the records are not as many as dataset.json says.
"""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Mapping
from typing import Any

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

import config
from config import UserError
from utility.command_line import environment, scripts
from utility.command_line.text_table import text_table

FLAGS = flags.FLAGS
# Flags that make no sense without --inspect.
INSPECTION_FLAGS = ('output_dir', 'ops', 'inspect_pictures')


def _default_num_workers() -> int:
    if hasattr(os, 'sched_getaffinity'):  # what this process may use; not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _define_flags() -> None:
    flags.DEFINE_string('data_dir', config.DEFAULT_DATA_DIR, 'Directory that holds the splits.')
    flags.DEFINE_string('records_dir', None, 'Output; by default DATA_DIR/tfrecords.')
    flags.DEFINE_string(
        'dataset', 'fashionai', 'Which data set this is, or in which format: see docs/data.md.'
    )
    flags.DEFINE_string(
        'schema', None, 'Names of the keypoints and categories, a JSON or YAML file; of a format.'
    )
    flags.DEFINE_float(
        'point_offset',
        None,
        'Added to the coordinates of a format: 0.5 where they are indices of pixels, 0 where they '
        'start at the corner of the picture. By default as the format usually has it.',
    )
    flags.DEFINE_multi_string(
        'allow_links',
        [],
        'Directory that symbolic links to pictures may lead to, out of the data, such as the cache '
        'of DVC or git-annex; can be given several times.',
    )
    flags.DEFINE_list('splits', [], 'Splits to convert, such as train_0,test_0; all by default.')
    flags.DEFINE_float(
        'val_fraction', 0.015, 'Share of the labelled pictures for validation.', 0, 1
    )
    flags.DEFINE_integer('folds', None, 'For cross validation: instead of --val_fraction, so many.')
    flags.DEFINE_integer('fold', None, 'Which of the --folds is for validation, from 0 on.')
    flags.DEFINE_string(
        'corrections', None, 'CSV of corrections of the annotations, as eval_labels.py writes it.'
    )
    flags.DEFINE_integer('max_side', None, 'Store larger pictures with this as their longer side.')
    flags.DEFINE_integer('num_shards', None, 'Files per split and category; by default ~100 MB.', 1)
    flags.DEFINE_integer('num_workers', _default_num_workers(), 'At most so many processes.', 1)
    flags.DEFINE_enum(
        'on_bad_image',
        'skip',
        ['skip', 'fail'],
        'Whether a picture that cannot be used is listed in rejected.csv or ends the run.',
    )
    flags.DEFINE_boolean(
        'keep_damaged', False, 'Use JPEGs of which a decoder says that parts are lost; names each.'
    )
    flags.DEFINE_string('inspect', None, 'Records to look into; nothing is converted.')
    flags.DEFINE_string('output_dir', None, 'Output of --inspect; by default RECORDS/inspection.')
    flags.DEFINE_string(
        'ops', config.DataConfig().train_ops, 'Of --inspect: how augmented.jpg is augmented.'
    )
    flags.DEFINE_integer(
        'inspect_pictures', 2000, 'Of --inspect: at most so many are decoded for the colors.', 1
    )


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    environment.hide_gpus()
    if FLAGS.inspect is not None:
        inspect(FLAGS.inspect)
        return
    for name in INSPECTION_FLAGS:
        if FLAGS[name].present:
            raise UserError(f'--{name} is for --inspect=RECORDS only')
    if FLAGS.folds is not None and FLAGS['val_fraction'].present:
        raise UserError('give either --val_fraction or --folds and --fold')
    from preprocessing.conversion import convert
    from utility.command_line import progress

    records_dir = FLAGS.records_dir or posixpath.join(FLAGS.data_dir, config.DEFAULT_RECORDS_SUBDIR)
    settings = convert.Settings(
        data_dir=FLAGS.data_dir,
        records_dir=records_dir,
        dataset=FLAGS.dataset,
        schema=FLAGS.schema,
        point_offset=FLAGS.point_offset,
        allow_links=tuple(FLAGS.allow_links),
        splits=tuple(FLAGS.splits),
        val_fraction=FLAGS.val_fraction,
        num_shards=FLAGS.num_shards,
        skip_bad_images=FLAGS.on_bad_image == 'skip',
        num_workers=FLAGS.num_workers,
        folds=FLAGS.folds,
        fold=FLAGS.fold,
        max_side=FLAGS.max_side,
        corrections=FLAGS.corrections,
        keeps_damaged=FLAGS.keep_damaged,
    )
    info = convert.convert(settings, progress.track)
    print(_summary(info))
    print(f'records: {records_dir}')


def _summary(info: dict) -> str:
    """Return a table of the records by split and category, and the notes on the data."""
    categories = list(info['schema']['categories'])
    rows = [['split', *categories, 'all']]
    for name, split in info['splits'].items():
        counts = [split['records'][category] for category in categories]
        rows.append([name, *counts, sum(counts)])
    lines = [text_table(rows)]
    empty = _without_validation(info)
    if empty:
        lines.append(f'val has no {", ".join(empty)}{_how_to_get_some(info["settings"])}')
    if info['rejected']:
        lines.append(f'{info["rejected"]} pictures cannot be used; see rejected.csv')
    changes = [f'{count} {change}' for change, count in info['encoded_anew'].items()]
    if changes:
        lines.append(f'encoded anew: {", ".join(changes)}')
    corrected = info['corrections']
    if corrected:
        kinds = ', '.join(f'{count} {kind}' for kind, count in corrected['kinds'].items())
        message = f'{corrected["points"]} points of {corrected["pictures"]} pictures'
        lines.append(f'corrected: {message} ({kinds})')
    lines += [f'warning: {warning}' for warning in info['warnings']]
    duplicates = info['duplicates']
    if duplicates['groups']:
        lines.append(
            f'{duplicates["pictures"]} pictures are copies of each other'
            f' ({duplicates["groups"]} different ones);'
            f' {duplicates["labelled_pictures_also_in_a_test_split"]} labelled ones are in a test'
            ' split too'
        )
    return '\n'.join(lines)


def _without_validation(info: dict) -> list[str]:
    """Return the categories that are trained but are not in the val split that there is."""
    if 'val' not in info['splits']:
        return []
    train, val = (info['splits'][name]['records'] for name in ('train', 'val'))
    return [category for category in train if train[category] and not val[category]]


def _how_to_get_some(settings: Mapping) -> str:
    """Return advice where pictures for validation are drawn, which are not where folds or the data
    themselves say which they are.
    """
    is_drawn = settings['val_fraction'] is not None
    is_given = any(name.startswith('val') for name in settings['splits'])
    return '; a larger --val_fraction would give it some' if is_drawn and not is_given else ''


def inspect(records_dir: str) -> None:
    """Tell what records hold; exits with 1 if they are not as many as dataset.json says."""
    from utility.command_line import progress
    from utility.inspection import inspect_records

    experiment = config.Experiment()
    settings = inspect_records.Settings(
        records_dir=records_dir,
        output_dir=FLAGS.output_dir or posixpath.join(records_dir, inspect_records.DEFAULT_SUBDIR),
        train_ops=experiment.resolved_ops(FLAGS.ops),
        eval_ops=experiment.resolved_ops(experiment.data.eval_ops),
        num_images=FLAGS.inspect_pictures,
    )
    report = inspect_records.inspect(settings, progress.track)
    print(format_inspection(report))
    print(f'\ninspection: {settings.output_dir}')
    if report['differences']:
        message = '; '.join(report['differences'])
        sys.exit(f'error: {records_dir} does not hold what its dataset.json says: {message}')


def format_inspection(report: Mapping[str, Any]) -> str:
    """Return the numbers of utility.inspection.inspect_records.inspect as aligned tables."""
    import pandas as pd

    tables = {
        'records': {name: {**n, 'all': sum(n.values())} for name, n in report['records'].items()},
        **{
            f'{name}, points': {**points, 'all': pd.DataFrame(points).sum(axis=1).to_dict()}
            for name, points in report['points'].items()
        },
        'normalizer, px': report['normalizers'],
        'height x width': report['sizes']['most_frequent'],
        f'{report["sizes"]["different"]} sizes, px': report['sizes']['sides'],
        'bytes a record': report['record_lengths'],
        'channels, 0..255': report['channels'],
    }
    frames = {
        title: pd.DataFrame.from_dict(rows, orient='index')
        for title, rows in tables.items()
        if rows
    }
    texts = (f.rename_axis(columns=title).to_string(na_rep='-') for title, f in frames.items())
    return '\n\n'.join(texts)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
