"""The page and the card of a run, the command that trains it again, and trackers."""

from __future__ import annotations

import dataclasses
import html.parser
import shlex
import sys
import types

import numpy as np
import pytest

from config import Experiment, UserError
from tests.commands import ROOT, call, check_mistake, run
from tests.tiny_checkpoints import write_network
from tests.tiny_records import write_records
from tests.tiny_runs import NETWORK, write_run
from utility import sweep
from utility.report import findings, trackers


class _Page(html.parser.HTMLParser):
    """What a page holds: its tags are balanced, and it loads nothing."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.text = [], [], [], [], ''
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in ('meta', 'img', 'br', 'link'):
            self.open.append(tag)
        self.ids += [values['id']] if 'id' in values else []
        self.links += [values['href']] if tag == 'a' else []
        self.sources += [values['src']] if 'src' in values else []
        assert tag not in ('script', 'link', 'iframe')

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_the_page_and_the_card_of_a_run_are_whole(tmp_path):
    counts = {'train': {'skirt': 2}, 'val': {'skirt': 14, 'trousers': 14}}
    records_dir = write_records(tmp_path / 'records', counts, 64)
    run_dir = write_run(tmp_path / 'run')
    (tmp_path / 'mlflow.py').write_text(
        'import contextlib\n'
        'start_run = lambda run_name: contextlib.nullcontext(print("run", run_name))\n'
        'log_params = lambda values: print("backbone", values["network.backbone"])\n'
        'log_metrics = lambda values: print("NE", values["normalized_error"])\n'
        'log_artifact = print\n'
    )
    page = tmp_path / 'out' / 'report.html'
    words = ('-m', 'utility.report', run_dir, f'--data_dir={records_dir}/val', f'--output={page}')
    path = f'{tmp_path}:{ROOT}'
    done = run(*words, '--track=mlflow', '--pictures=2', PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert 'run run\nbackbone resnet18\nNE ' in done.stdout
    found = _Page(page.read_text())
    assert [found.ids.count(link[1:]) for link in found.links] == [1] * len(found.links)
    assert len(found.sources) == 4 and all(s.startswith('data:image/') for s in found.sources)
    for words in ('28 pictures', 'How far off', 'Points in circles of 90 %', 'Miss', 'Size'):
        assert words in found.text
    card = (tmp_path / 'out' / 'report.md').read_text()
    assert card.startswith('# Model card: run') and '95 % interval' in card
    command = card.split('```')[1].strip()
    assert command in found.text


def test_mistakes_are_told_in_one_line(tmp_path):
    check_mistake(call('-m', 'utility.report'), 'give one run, and --data_dir')
    words = ('-m', 'utility.report', tmp_path, f'--data_dir={tmp_path}')
    check_mistake(call(*words, '--output=a.pdf'), 'must end in .html')
    check_mistake(
        call(*words, '--track=wandb'), '--track=wandb: wandb is missing; pip install wandb'
    )


def _experiment(script, **values):
    return dataclasses.replace(sweep.load_experiment(str(ROOT / script)), **values)


@pytest.mark.parametrize(
    ('experiment', 'script'),
    [
        (_experiment('train_resnet50_cpn.py', epochs=3.0, seed=5), 'train_resnet50_cpn.py'),
        (_experiment('train_efficientnet_lite0_dhn.py'), 'train_efficientnet_lite0_dhn.py'),
        (Experiment(NETWORK), 'train_resnet18_dhn.py'),
    ],
)
def test_the_command_trains_just_this_experiment(tmp_path, experiment, script):
    write_network(tmp_path / 'run', experiment, trained=False)
    words = shlex.split(findings.command_of(str(tmp_path / 'run'), experiment))
    assert words[:3] == ['python', script, '--data_dir=RECORDS']
    assert words[3] == f'--category={experiment.data.category}'
    settings = [word.removeprefix('--set=') for word in words[4:]]
    again = sweep.load_experiment(str(ROOT / script)).override(*settings)
    data = dataclasses.replace(again.data, category=experiment.data.category)
    assert dataclasses.replace(again, data=data) == experiment


def _found():
    network = findings.Network('run/all', ['skirt'], Experiment(), 1, None, 5, 'python', {})
    return types.SimpleNamespace(
        name='run', networks=[network], split_dir='val', numbers=lambda: {'normalized_error': 0.1}
    )


def test_weights_and_biases_gets_the_numbers_the_settings_and_the_page(monkeypatch):
    calls = []

    def init(**values):
        names = ('log', 'save', 'finish')
        return types.SimpleNamespace(
            **{name: lambda *given, name=name: calls.append((name, *given)) for name in names},
            values=calls.append(values),
        )

    monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
    trackers.find('wandb')(_found(), 'report.html')
    assert calls[0]['name'] == 'run' and calls[0]['config']['network.backbone'] == 'resnet50'
    assert calls[1:] == [('log', {'normalized_error': 0.1}), ('save', 'report.html'), ('finish',)]


def test_a_tracker_that_is_not_installed_is_a_mistake_of_the_user(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mlflow', None)
    with pytest.raises(UserError, match='mlflow is missing; pip install mlflow'):
        trackers.find('mlflow')


def test_the_best_and_the_worst_are_chosen_by_their_mean_error():
    nan = np.nan
    distances = np.array([[1, 1, 1], [9, nan, nan], [0, nan, nan], [2, 2, 3], [nan] * 3, [5, 5, 6]])
    best, worst = findings._extremes(distances, 2)
    assert worst == [1, 5] and best == [0, 3]
    assert findings._extremes(distances, 50)[1] == [1, 5]
