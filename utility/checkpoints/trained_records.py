"""Which records a network is trained on and evaluated with: `FOLDER/records.json`.

What is kept tells one split from another by a hash of its pictures and annotations, so that records
that were copied or moved are the same, and those of another fold, fraction or data set are not.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from config import UserError
from preprocessing import records
from preprocessing.files import exists, json_bytes, read_bytes, write_bytes
from preprocessing.training_data import SPLITS
from utility.checkpoints import evaluations, variables

FILE = 'records.json'
_NOW, _BEFORE = 'records', 'before'  # of the file


def identity(data_dir: str, categories: Iterable[str]) -> dict[str, Any]:
    """Return what tells records apart: data set, keypoints, and of each split its parts.

    Args:
        categories: Of the network.
    """
    info = records.load_dataset_info(data_dir)
    parts = {split: _parts(info['splits'].get(split, {})) for split in SPLITS}
    wanted = set(categories)
    return {
        'dataset': info['dataset'],
        'keypoints': list(info['schema']['keypoints']),
        **{
            split: {c: part for c, part in of.items() if c in wanted} for split, of in parts.items()
        },
    }


def _parts(split: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return category -> number and fingerprint of its records.

    Records of a time before there were fingerprints are told apart by the sizes of their files.
    """
    prints, sizes = split.get(records.FINGERPRINTS, {}), split.get('bytes', {})
    return {
        category: {'records': number, 'fingerprint': prints.get(category, sizes.get(category))}
        for category, number in split.get('records', {}).items()
        if number
    }


def differences(now: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """Return how two identities differ, in words; the first is the new one."""
    changes = []
    if now['dataset'] != saved['dataset']:
        changes.append(f'data set {now["dataset"]} / {saved["dataset"]}')
    elif now['keypoints'] != saved['keypoints']:
        changes.append(f'{len(now["keypoints"])} / {len(saved["keypoints"])} keypoints, others')
    for split in SPLITS:
        for category in dict.fromkeys([*saved[split], *now[split]]):
            parts = [side[split].get(category, {'records': 0}) for side in (now, saved)]
            numbers = [part['records'] for part in parts]
            if numbers[0] != numbers[1]:
                changes.append(f'{split}/{category}: {numbers[0]} / {numbers[1]} pictures')
            elif parts[0] != parts[1]:
                changes.append(f'{split}/{category}: {numbers[0]} other pictures or annotations')
    return changes


def check(folder: str, now: Mapping[str, Any], accepts: bool) -> None:
    """Refuse to go on with other records than those that a network was trained on.

    Args:
        folder: Of the network; nothing is wrong where no checkpoint is.
        now: Identity of the records that are given.
        accepts: Whether other ones are meant; the log tells of them then.

    Raises:
        UserError: They differ, and that is not accepted; names what differs.
    """
    saved = _kept(folder).get(_NOW) if variables.has_checkpoint(folder) else None
    changes = differences(now, saved) if saved else []
    if not changes:
        return
    text = f'{folder} was trained on other records (now / there): {"; ".join(changes)}'
    if not accepts:
        raise UserError(
            f'{text}; give those, or another --model_dir with --init_checkpoint={folder}, or '
            '--other_records to go on with these. Pictures to validate with may have been trained '
            'on, then'
        )
    logging.warning('--other_records: %s', text)


def keep(folder: str, now: Mapping[str, Any], step: int) -> None:
    """Write what a network is trained on from a step on.

    Where it is validated on other pictures than before, earlier evaluations are put aside: their NE
    cannot be compared with what follows.

    Args:
        now: Identity of the records.
        step: That is trained already; 0: none.
    """
    kept = _kept(folder) if step else {}
    saved, before = kept.get(_NOW), kept.get(_BEFORE, [])
    if saved == now:
        return
    if saved:
        before = [*before, {'up_to_step': step, **saved}]
        if saved['val'] != now['val']:
            _put_aside(folder, step)
    content = json_bytes({_NOW: now, _BEFORE: before})
    write_bytes(os.path.join(folder, FILE), content, rewrites=True)


def _put_aside(folder: str, step: int) -> None:
    path = os.path.join(folder, evaluations.FILE)
    aside = os.path.join(folder, f'evaluations_up_to_{step}.csv')
    if exists(path):
        tf.io.gfile.rename(path, aside, overwrite=True)
        logging.warning('%s has the evaluations on the records before; the best is chosen anew',
                        aside)  # fmt: skip


def validates_on(folder: str, split_dir: str) -> bool:
    """Return whether a network is evaluated on pictures of this split while it is trained.

    Where a network or records of an older version have kept too little, the split's name tells.
    """
    split_dir = split_dir.rstrip('/')
    kept = _kept(folder).get(_NOW)
    data_dir, split = posixpath.split(split_dir)
    if kept is None:
        return split == 'val'
    parts = _parts(records.load_dataset_info(data_dir or '.')['splits'].get(split, {}))
    return any(
        parts.get(category) == part and (part['fingerprint'] or split == 'val')
        for category, part in kept['val'].items()
    )


def _kept(folder: str) -> dict[str, Any]:
    """Return the content of the file; nothing where there is none.

    Raises:
        UserError: The file is not what `keep` writes.
    """
    path = os.path.join(folder, FILE)
    if not exists(path):
        return {}
    try:
        values = json.loads(read_bytes(path))
        now = values[_NOW]
        parts = [part for split in SPLITS for part in dict(now[split]).values()]
        right = all(isinstance(part, dict) and type(part.get('records')) is int for part in parts)
        right = right and isinstance(values.get(_BEFORE, []), list)
        if not (right and isinstance(now['keypoints'], list) and 'dataset' in now):
            raise ValueError('not what a training writes')
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f'{path} is broken ({type(error).__name__}: {error})') from error
    return values
