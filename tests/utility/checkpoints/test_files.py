"""Checkpoints in pieces: the newest that can be read is found, told, and gone on from."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_checkpoints import write_checkpoint
from utility.checkpoints import choice, files, variables
from utility.checkpoints.choice import CheckpointChoice

DATA = '.data-00000-of-00001'


def _truncate(path):
    with path.open('rb+') as file:
        file.truncate(os.path.getsize(path) // 2)


def _flip_a_bit(path):
    with path.open('rb+') as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


# What happens to the newest of three checkpoints.
DAMAGES = {
    'data cut short': lambda folder: _truncate(folder / f'model.ckpt-30{DATA}'),
    'data altered': lambda folder: _flip_a_bit(folder / f'model.ckpt-30{DATA}'),
    'data gone': lambda folder: (folder / f'model.ckpt-30{DATA}').unlink(),
    'index gone': lambda folder: (folder / 'model.ckpt-30.index').unlink(),
    'index cut short': lambda folder: _truncate(folder / 'model.ckpt-30.index'),
    'index empty': lambda folder: (folder / 'model.ckpt-30.index').write_bytes(b''),
}
# What happens to the file that points to it.
POINTERS = {
    'garbage': b'\xff\xfe\x00garbage',
    'no such field': b'pointer: 3',
    'empty': b'',
    'gone': None,
    'elsewhere': b'model_checkpoint_path: "model.ckpt-40"\n',
}


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, the last one listed last, as a training leaves them."""
    for step in (10, 20, 30):
        values = {'w': np.full(100, step, np.float32), 'global_step': np.int64(step)}
        write_checkpoint(tmp_path / f'model.ckpt-{step}', values)
    tf.compat.v1.train.update_checkpoint_state(
        str(tmp_path), 'model.ckpt-30', [f'model.ckpt-{step}' for step in (10, 20, 30)]
    )
    return tmp_path


def _step(prefix):
    return int(tf.train.load_checkpoint(prefix).get_tensor('global_step'))


def test_the_newest_comes_first(folder):
    names = [os.path.basename(prefix) for prefix in files.candidates(str(folder))]
    assert names == ['model.ckpt-30', 'model.ckpt-20', 'model.ckpt-10']
    assert files.usable(str(folder)) == str(folder / 'model.ckpt-30')


def test_what_is_listed_goes_before_a_later_one_that_is_not(folder):
    """A save that was killed before the list was written is made again."""
    values = {'global_step': np.int64(40)}
    write_checkpoint(folder / 'model.ckpt-40', values)
    assert files.usable(str(folder)).endswith('-30')


def test_a_folder_without_checkpoints_has_none(tmp_path):
    for path in (tmp_path, tmp_path / 'absent'):
        assert files.candidates(str(path)) == []
        assert files.usable(str(path)) is None
        files.recover(str(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_one_before_a_damaged_one_is_used_and_that_is_said(folder, damage, caplog):
    DAMAGES[damage](folder)
    prefix = variables.resolve(str(folder))
    assert _step(prefix) == 20
    assert f'{folder}/model.ckpt-30 cannot be read (' in caplog.text
    assert f'using {folder}/model.ckpt-20' in caplog.text


@pytest.mark.parametrize('pointer', POINTERS)
@pytest.mark.parametrize('damage', [None, 'data cut short'])
def test_a_training_goes_on_from_the_newest_that_can_be_read(folder, pointer, damage, caplog):
    if damage:
        DAMAGES[damage](folder)
    path = folder / 'checkpoint'
    path.unlink()
    if POINTERS[pointer] is not None:
        path.write_bytes(POINTERS[pointer])
    files.recover(str(folder))
    assert _step(tf.train.latest_checkpoint(str(folder))) == (20 if damage else 30)
    state = tf.train.get_checkpoint_state(str(folder))
    assert len(state.all_model_checkpoint_paths) == (2 if damage else 3)
    assert str(folder) not in path.read_text()  # so that it may be moved
    assert f'{folder} goes on from {folder}/model.ckpt-' in caplog.text


def test_what_is_right_stays_as_it_is(folder):
    before = (folder / 'checkpoint').read_bytes()
    files.recover(str(folder))
    assert (folder / 'checkpoint').read_bytes() == before


def test_none_that_can_be_read_is_an_error_that_names_all(folder):
    for step in (10, 20, 30):
        _truncate(folder / f'model.ckpt-{step}{DATA}')
    message = r'none of its checkpoints can be read \(model.ckpt-30: .*model.ckpt-20: .*ckpt-10: '
    with pytest.raises(ValueError, match=message + '.*remove the folder to start anew'):
        files.recover(str(folder))
    with pytest.raises(ValueError, match=message):
        variables.resolve(str(folder))


def test_a_damaged_best_one_is_told_and_the_last_is_used(folder, caplog):
    caplog.set_level('INFO', logger='absl')
    (folder / 'best').mkdir()
    write_checkpoint(folder / 'best/model.ckpt-20', {'w': np.zeros(100, np.float32)})
    _truncate(folder / f'best/model.ckpt-20{DATA}')
    assert choice.choose(str(folder), CheckpointChoice()).endswith('/model.ckpt-30')
    assert "/best': none of its checkpoints can be read (model.ckpt-20" in caplog.text
    assert 'model.ckpt-30, the last one: the best one cannot be read' in caplog.text


def test_what_a_killed_process_left_half_written_is_removed(folder):
    before = sorted(path.name for path in folder.iterdir())
    (folder / 'model.ckpt-40_temp').mkdir()
    (folder / 'model.ckpt-40_temp/part-00000-of-00001.data-00000-of-00001.tempstate1').touch()
    (folder / f'model.ckpt-40.meta.tmp{"0a" * 16}').touch()
    (folder / 'checkpoint.tmp').touch()  # of somebody else
    files.recover(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, 'checkpoint.tmp'])
