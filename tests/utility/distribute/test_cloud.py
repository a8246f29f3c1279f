"""What runs in a cloud: the manifests fit the scripts and the strategies, paths may be remote."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml
from absl import flags

from tests.commands import ROOT
from tests.tiny_records import write_records
from utility.distribute import strategies
from utility.train import flags as training_flags

CLOUD = ROOT / 'demos' / 'cloud'
TFJOBS = sorted(path.name for path in CLOUD.glob('tfjob_*.yaml'))
# How Kubeflow's operator calls the replicas in TF_CONFIG.
JOBS = {'Chief': 'chief', 'Worker': 'worker', 'PS': 'ps'}


def _replicas(name: str) -> dict[str, tuple[int, dict]]:
    """Return job -> how many containers, and the container, of a manifest."""
    manifest = yaml.safe_load((CLOUD / name).read_text())
    if name == 'vertex_ai.yaml':
        pools = manifest['workerPoolSpecs']
        return {
            job: (pool['replicaCount'], pool['containerSpec'])
            for job, pool in zip(('chief', 'worker', 'ps'), pools)
        }
    assert (manifest['apiVersion'], manifest['kind']) == ('kubeflow.org/v1', 'TFJob')
    assert manifest['spec']['runPolicy']['cleanPodPolicy'] == 'Running'
    replicas = {}
    for kind, replica in manifest['spec']['tfReplicaSpecs'].items():
        assert replica['restartPolicy'] == 'OnFailure'
        pod = replica['template']['spec']
        (container,) = pod['containers']
        assert container['name'] == 'tensorflow'
        mounted = {mount['name'] for mount in container['volumeMounts']}
        assert mounted == {volume['name'] for volume in pod['volumes']}
        replicas[JOBS[kind]] = (replica['replicas'], container)
    return replicas


@pytest.mark.parametrize('name', [*TFJOBS, 'vertex_ai.yaml'])
def test_a_manifest_starts_a_script_with_flags_that_it_has(name):
    for _, container in _replicas(name).values():
        assert not any(one['name'] == 'TF_CONFIG' for one in container.get('env', []))
        script, *arguments = container['args']
        assert (ROOT / script).is_file()
        values = flags.FlagValues()
        _define(values)
        assert values([script, *arguments]) == [script]
        assert {'data_dir', 'model_dir', 'strategy', 'stall_minutes'} <= _given(values)


@pytest.mark.parametrize('name', TFJOBS)
def test_every_container_asks_for_cpu_and_memory(name):
    for _, container in _replicas(name).values():
        assert {'cpu', 'memory'} <= container['resources']['requests'].keys()
        assert 'memory' in container['resources']['limits']


def test_the_image_is_made_of_what_its_context_holds():
    """The builder is sent nothing else; what is copied are the scripts and the drawing demo."""
    kept = (ROOT / '.dockerignore').read_text().splitlines()
    assert kept[1] == '*'
    shown = {line[1:] for line in kept if line.startswith('!')}
    copied = {
        source
        for line in (CLOUD / 'Dockerfile').read_text().splitlines()
        if line.startswith('COPY ')
        for source in line.split()[1:-1]
    }
    assert copied == shown
    assert all(list(ROOT.glob(source)) for source in copied)
    assert 'demos/draw_keypoints.py' in copied
    imported = set(
        re.findall(r'^ *from (\w+)', (ROOT / 'demos/draw_keypoints.py').read_text(), re.M)
    )
    assert {name for name in imported if (ROOT / name).is_dir()} <= copied


def _given(values: flags.FlagValues) -> set[str]:
    return {name for name in values if values[name].present}


def _define(values: flags.FlagValues) -> None:
    """Define the flags of the train scripts as command_line does, apart from absl's own."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ('string', 'boolean', 'integer', 'float', 'enum', 'multi_string', 'list'):
            define = getattr(flags, f'DEFINE_{kind}')

            def defined(*arguments, define=define, **options):
                return define(*arguments, flag_values=values, **options)

            patch.setattr(training_flags.flags, f'DEFINE_{kind}', defined)
        training_flags.define('logs')


@pytest.mark.parametrize('name', [*TFJOBS, 'vertex_ai.yaml'])
def test_the_strategy_accepts_the_cluster_that_a_manifest_makes(name, monkeypatch):
    replicas = _replicas(name)
    cluster = {
        job: [f'keypoints-{job}-{i}.default.svc:2222' for i in range(number)]
        for job, (number, _) in replicas.items()
    }
    for job, (number, container) in replicas.items():
        (strategy,) = (a.partition('=')[2] for a in container['args'] if '--strategy=' in a)
        for index in range(number):
            task = {'type': job, 'index': index}
            config = {'cluster': cluster, 'task': task, 'environment': 'cloud'}
            monkeypatch.setenv('TF_CONFIG', json.dumps(config))
            found = strategies.find_cluster(strategy)
            assert found.is_chief == (job == 'chief')
            assert found.num_workers == 4


def test_vertex_ai_starts_all_again_when_it_does_one():
    manifest = yaml.safe_load((CLOUD / 'vertex_ai.yaml').read_text())
    assert manifest['scheduling'] == {'restartJobOnWorkerRestart': True}


def test_the_image_holds_what_training_imports_in_the_locked_versions():
    text = (CLOUD / 'Dockerfile').read_text()
    locked = re.search(r'^tensorflow-cpu==(\S+)', (ROOT / 'requirements.lock').read_text(), re.M)
    assert f"'tensorflow[and-cuda]=={locked[1]}'" in text
    assert 'FROM python:3.11' in text
    copied = [word for line in re.findall(r'^COPY (.*) \S+$', text, re.M) for word in line.split()]
    assert all(list(ROOT.glob(word)) for word in copied)
    assert {'nets', 'preprocessing', 'utility', '*.py', 'requirements.lock'} <= set(copied)


def test_flags_and_files_that_the_guide_names_are_there():
    text = (ROOT / 'docs' / 'cloud.md').read_text()
    values = flags.FlagValues()
    _define(values)
    # Of the launcher and an eval script.
    own = {'workers', 'servers', 'restarts', 'output_csv', 'copy_to_model_dir'}
    named = set(re.findall(r'--([a-z_]+)', text))
    assert named - own <= set(values)
    for path in re.findall(r'\]\(\.\./([^)]+)\)', text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ('resnet50.pth', 'gs://bucket/records/resnet50.pth'),
        ('/weights/resnet50.pth', '/weights/resnet50.pth'),
        ('gs://other/resnet50.pth', 'gs://other/resnet50.pth'),
    ],
)
def test_weights_are_looked_up_beside_the_data(given, expected):
    values = flags.FlagValues()
    _define(values)
    arguments = ['--data_dir=gs://bucket/records', f'--init_checkpoint={given}']
    values(['train.py', *arguments])
    assert training_flags.options(values).init_checkpoint == given
    values(['train.py', *arguments, '--run_on_cloud'])
    assert training_flags.options(values).init_checkpoint == expected


REMOTE = """
import sys
import eval_submission
import train_resnet18_dhn
from preprocessing import files
from utility.command_line import scripts
from utility.train import runner
from utility.train.flags import RunOptions

root, local_csv = sys.argv[1:]
experiment = train_resnet18_dhn.EXPERIMENT.override(
    'network.image_size=64,64', 'network.heatmap_size=16,16', 'data.batch_size=2',
    'network.backbone_options.width=16', 'network.head_options.channels=16',
    'epochs=2', 'epochs_per_eval=1',
)
records, first, second = (f'{root}/{name}' for name in ('records', 'runs/first', 'runs/second'))
runner.train(experiment, RunOptions(records, first, 'skirt'))
start = RunOptions(records, second, 'skirt', init_checkpoint=f'{first}/skirt')
runner.train(experiment.override('epochs=1'), start)
runner.train(experiment.override('epochs=1'), start)  # nothing is left to do
eval_submission._define_flags()
sys.argv = ['eval_submission.py', f'--data_dir={records}/test_0', f'--model_dir={second}',
            f'--output_csv={local_csv}', '--copy_to_model_dir']
scripts.run(eval_submission.main, '')
copy = files.read_bytes(f'{second}/out.csv')
assert copy == files.read_bytes(local_csv) and copy.count(b'skirt/') == 3
"""


@pytest.mark.slow
def test_records_runs_weights_and_submissions_may_be_remote(tmp_path):
    """By the one scheme of TensorFlow's that needs no network and holds what it was given."""
    splits = {'train': {'skirt': 4}, 'val': {'skirt': 2}, 'test_0': {'skirt': 3}}
    write_records(tmp_path / 'records', splits, 64)
    remote, csv = f'file://{tmp_path}', tmp_path / 'out.csv'
    done = subprocess.run(
        [sys.executable, '-c', REMOTE, remote, str(csv)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f'{remote}/runs/second/out.csv: a copy'
    for run, step in (('first', 4), ('second', 2)):
        network = tmp_path / 'runs' / run / 'skirt'
        for name in ('experiment.json', 'evaluations.csv', f'model.ckpt-{step}.index', 'best'):
            assert (network / name).exists(), name
