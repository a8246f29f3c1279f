"""utility.command_line.scripts, seen as a user sees it: tiny scripts in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

from tests.commands import ROOT
from utility.command_line import scripts

HEAD = '''
"""Does a thing.

Example: script.py A B
"""
from absl import flags
from utility.command_line import scripts

flags.DEFINE_string('model_dir', 'logs', 'Where the run is.')
flags.DEFINE_integer('num_workers', 0, 'How many processes.')
flags.DEFINE_float('share', None, 'How much.')
flags.DEFINE_boolean('flip_test', False, 'Average with the mirrored picture.')
flags.DEFINE_boolean('resume', True, 'Go on.')
flags.DEFINE_enum('refine', 'dark', ['argmax', 'dark'], 'How to decode.')
flags.DEFINE_list('splits', ['train', 'val'], 'Which parts. ' + 20 * 'They are read in turn. ')
flags.DEFINE_multi_string('set', [], 'key=value, repeatable.')
'''
MAIN = """
def main(positional):
    {}

if __name__ == '__main__':
    scripts.run(main, __doc__)
"""


@pytest.fixture
def run_script(tmp_path):
    """Runs a script whose main has the given body; returns the finished process."""

    def run(body: str, *arguments: str, head: str = HEAD, **environment: str):
        script = tmp_path / 'script.py'
        script.write_text(head + MAIN.format(body.replace('\n', '\n    ')))
        inherited = {k: v for k, v in os.environ.items() if k != 'KEYPOINTS_TRACEBACK'}
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            env={**inherited, 'PYTHONPATH': str(ROOT), 'COLUMNS': '100', **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_flags_and_positional_arguments_in_any_order(run_script):
    body = 'f = flags.FLAGS; print(positional, f.model_dir, f.flip_test, f.set, f.splits)'
    done = run_script(
        body, 'A.csv', '--model_dir=m', 'B.csv', '--set=a=1', '--set', 'b=2', '--flip_test', '-1'
    )
    assert (done.returncode, done.stdout) == (2, '')  # -1 looks like a flag
    done = run_script(
        body, 'A.csv', '--model_dir=m', 'B.csv', '--set=a=1', '--set', 'b=2', '--', '-1', '--help'
    )
    assert done.stdout == (
        "['A.csv', 'B.csv', '-1', '--help'] m False ['a=1', 'b=2'] ['train', 'val']\n"
    )
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ('--modeldir=x', 'unknown flag --modeldir; did you mean --model_dir?'),
        ('--noflip_tests', 'unknown flag --noflip_tests; did you mean --flip_test?'),
        ('--zzz', 'unknown flag --zzz; --help lists the flags'),
        ('--num_workers=two', 'num_workers'),
        ('--num_workers=' + '9' * 400, f'--num_workers={"9" * 20}: must be a number of at most'),
        ('--share=nan', '--share=nan: must be a number of at most'),
        ('--share=-1e400', '--share=-inf: must be a number of at most'),
        ('--refine=best', '<argmax|dark>'),
        ('--model_dir', 'Missing value for flag --model_dir'),
        ('--model_dir=', '--model_dir= is empty; give it a value or leave it out'),
        ('--splits=', '--splits= is empty'),
    ],
)
def test_mistakes_in_flags_are_one_line(run_script, argument, message):
    done = run_script('print("started")', argument)
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.startswith('error: ')
    assert message in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('word', ['--help', '-h', '-help', '--helpshort'])
def test_help_lists_the_script_and_its_flags(run_script, word):
    done = run_script('raise AssertionError', '--model_dir=x', word, '--unknown')
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.splitlines()
    assert lines[0] == 'Does a thing.'
    assert '  --model_dir: Where the run is. [logs]' in lines
    assert '  --num_workers: How many processes. [0]' in lines
    assert '  --[no]flip_test: Average with the mirrored picture.' in lines
    assert '  --[no]resume: Go on. [true]' in lines
    assert '  --refine: <argmax|dark>: How to decode. [dark]' in lines
    assert '[train,val]' in done.stdout
    assert '  --set: key=value, repeatable.' in lines
    assert max(map(len, lines)) <= 100
    assert '--stderrthreshold' not in done.stdout


def test_help_lists_flags_of_imported_modules_too(run_script, tmp_path):
    (tmp_path / 'imported.py').write_text(
        "from absl import flags\nflags.DEFINE_string('of_another_module', '', 'Its help.')\n"
    )
    head = HEAD + 'import sys; sys.path.insert(0, "DIRECTORY"); import imported\n'
    done = run_script('pass', '--help', head=head.replace('DIRECTORY', str(tmp_path)))
    assert '  --of_another_module: Its help.' in done.stdout
    assert done.stdout.index('--model_dir') < done.stdout.index('--of_another_module')


def test_helpfull_lists_the_flags_of_absl(run_script):
    done = run_script('pass', '--helpfull')
    assert done.returncode == 0
    assert '--verbosity' in done.stdout
    assert '--model_dir' in done.stdout


def test_help_is_fast(run_script):
    run_script('pass', '--help')
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run_script('pass', '--help')
        seconds.append(time.perf_counter() - start)
    # 0.1 s on an idle machine; the rest is for busy ones.
    assert min(seconds) < 1


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        ("import config; raise config.UserError('--x=1:\\n  must be 2')", '--x=1: must be 2'),
        ("open('/nonexistent/a.csv')", '/nonexistent/a.csv: No such file or directory'),
        ("open('/')", '/: Is a directory'),
        ("raise OSError(21, 'Is a directory', 'a.partial', None, 'a')", 'a: Is a directory'),
        ("raise OSError('broken.jpg: not a picture')", 'broken.jpg: not a picture'),
        ('scripts.no_positional(["blouse"])', "unexpected argument 'blouse'"),
    ],
)
def test_mistakes_of_the_user_are_one_line(run_script, body, message):
    done = run_script(body)
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: {message}')
    assert done.stderr.count('\n') == 1


def test_traceback_of_a_mistake_on_demand(run_script):
    done = run_script("import config; raise config.UserError('bad')", KEYPOINTS_TRACEBACK='1')
    assert done.returncode == 2
    assert 'Traceback' in done.stderr
    assert done.stderr.endswith('error: bad\n')


@pytest.mark.parametrize(
    'body',
    [
        'raise RuntimeError("broken")',
        '1 / 0',
        'a, b = (1, 2, 3)',
        'raise ValueError("from deep inside")',
        'raise ConnectionResetError(104, "Connection reset by peer")',
        'raise KeyError("name")',
    ],
)
def test_failures_at_run_time_keep_their_traceback(run_script, body):
    done = run_script(body)
    assert done.returncode == 1
    assert 'Traceback' in done.stderr


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        ('raise scripts.RunError("step 3:\\n the loss is nan")', 'step 3: the loss is nan'),
        ('raise OSError(28, "No space left on device", "a/b")', 'a/b: No space left on device; '),
        ('open("/dev/full", "w").write("x" * 99999)', 'a file: No space left on device; '),
    ],
)
def test_failures_that_are_understood_are_one_line(run_script, body, message):
    done = run_script(body)
    assert done.returncode == 1
    assert done.stderr.startswith(f'error: {message}')
    assert done.stderr.count('\n') == 1


def test_interrupt_is_told_in_a_word(run_script):
    done = run_script('raise KeyboardInterrupt')
    assert (done.returncode, done.stderr) == (1, 'interrupted\n')


def test_exit_codes_of_main_are_kept(run_script):
    assert run_script('pass').returncode == 0
    assert run_script('import sys; sys.exit(3)').returncode == 3


def test_reader_of_a_pipe_may_leave(run_script):
    body = 'import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1); print("lost")'
    done = run_script(body)
    assert (done.returncode, done.stderr) == (1, '')


def test_the_work_goes_on_without_the_reader_of_a_pipe(run_script, tmp_path):
    body = f"""
        import os, pathlib
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        for line in range(10_000):
            print('lost', flush=True)
        pathlib.Path({str(tmp_path / 'out')!r}).write_text('done')
    """
    done = run_script(textwrap.dedent(body))
    assert (done.returncode, done.stderr) == (1, '')
    assert (tmp_path / 'out').read_text() == 'done'


def test_verbosity_is_info_unless_said_otherwise(run_script):
    body = "from absl import logging; logging.info('detail'); logging.warning('careful')"
    both = run_script(body).stderr
    assert 'detail' in both
    assert 'careful' in both
    one = run_script(body, '--verbosity=-1').stderr
    assert 'detail' not in one
    assert 'careful' in one


def test_flagfile(run_script, tmp_path):
    (tmp_path / 'flags.txt').write_text('--model_dir=from_file\n')
    done = run_script('print(flags.FLAGS.model_dir)', f'--flagfile={tmp_path}/flags.txt')
    assert done.stdout == 'from_file\n'


def test_no_positional_accepts_none():
    scripts.no_positional([])


def _caught(call) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError('no error')


def test_wrong_paths_in_tensorflow_are_mistakes(tmp_path):
    import tensorflow as tf

    missing = str(tmp_path / 'missing')
    for call in (
        lambda: tf.io.gfile.GFile(missing).read(),
        lambda: next(iter(tf.data.TFRecordDataset(missing))),
    ):
        message = scripts._mistake(_caught(call))
        assert message == f'{missing}; No such file or directory'
    forbidden = tf.errors.PermissionDeniedError(None, None, 'x: Permission denied\nat node y')
    assert scripts._mistake(forbidden) == 'x: Permission denied'
    text = 'Graph execution error:\n\nDetected at node y\n/run/x_temp; No such file or directory'
    gone = tf.errors.NotFoundError(None, None, f'{text}\n\t [[y]]\n\nOriginal stack trace')
    assert scripts._mistake(gone) == '/run/x_temp; No such file or directory'


def test_paths_that_cannot_be_are_mistakes_in_tensorflow_too(tmp_path):
    import tensorflow as tf

    (tmp_path / 'file').write_text('x')
    for path, words in (('file/x', 'is not a directory'), ('y' * 300, 'File name too long')):
        with pytest.raises(tf.errors.OpError) as error:
            tf.io.gfile.makedirs(str(tmp_path / path))
        assert words in scripts._mistake(error.value)
    other = tf.errors.InvalidArgumentError(None, None, 'a/b must be 3; is no name too long')
    assert scripts._mistake(other) is None


def test_a_full_disk_in_tensorflow_is_understood():
    import tensorflow as tf

    full = "Graph error:\n\n'/run/model.ckpt-8_temp/part'; No space left on device\n\t [[save]]"
    error = tf.errors.ResourceExhaustedError(None, None, full)
    assert scripts._failure(error).startswith('/run/model.ckpt-8_temp/part: No space left on ')
    assert scripts._failure(tf.errors.ResourceExhaustedError(None, None, 'OOM')) is None


def test_errors_of_a_graph_are_no_mistakes_of_the_user():
    import tensorflow as tf

    def graph():
        with tf.Graph().as_default():
            tf.concat([tf.zeros([2, 3]), tf.zeros([3, 4])], axis=0)

    error = _caught(graph)
    assert isinstance(error, ValueError)
    assert scripts._mistake(error) is None
    internal = tf.errors.InternalError(None, None, 'x')
    assert scripts._mistake(internal) is None


def test_a_logged_error_keeps_its_traceback(run_script):
    body = (
        'from absl import logging\n'
        'try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception("bad")'
    )
    done = run_script(body)
    assert done.returncode == 0
    assert 'error: bad' in done.stderr
    assert 'ZeroDivisionError' in done.stderr


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        ("open('/proc/x' * 600)", 'File name too long'),
        ("import os; os.symlink('a', 'a'); open('a')", 'a: Too many levels of symbolic links'),
        ("raise OSError(30, 'Read-only file system', '/ro/x.csv')", '/ro/x.csv: Read-only'),
        (r"print('\udcff', file=open('x', 'w', encoding='utf8'))", r"'\udcff': is no UTF-8"),
        (r"('x,y\n' * 999 + 'b\udcffa,1').encode()", r"error: 'b\udcffa': is no UTF-8"),
        (r"open('a\0b')", 'a path holds a null byte'),
    ],
)
def test_paths_that_cannot_be_are_told_in_a_line(run_script, tmp_path, make, told):
    done = run_script(f'import os; os.chdir({str(tmp_path)!r}); {make}')
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert told in line


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_names_that_the_terminal_cannot_show_are_escaped(run_script, encoding):
    done = run_script("print('衣服/blouse.jpg')", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, '')
    shown = '衣服' if encoding == 'utf-8' else r'\u8863\u670d'
    assert done.stdout == f'{shown}/blouse.jpg\n'


def test_a_standard_output_that_is_closed_takes_no_file_with_it(tmp_path):
    script = tmp_path / 'script.py'
    body = "import os; print('lost'); file = open('out.txt', 'w'); os.write(1, b'lost')"
    script.write_text(HEAD + MAIN.format(body))
    done = subprocess.run(
        ['sh', '-c', f'{sys.executable} {script} >&-'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert (tmp_path / 'out.txt').read_bytes() == b''


def test_a_full_disk_tells_which_file_it_was(run_script, tmp_path):
    body = (
        'import resource\n'
        'from preprocessing import files\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
        f'files.write_bytes({str(tmp_path / "out.csv")!r}, bytes(5000))'
    )
    done = run_script(body)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: {tmp_path}/out.csv: File too large; ')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['script.py']


def test_events_that_cannot_be_written_tell_of_the_full_disk(run_script):
    body = "raise RuntimeError('RESOURCE_EXHAUSTED; /logs/x/events.1; No space left on device')"
    done = run_script(body)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: /logs/x/events.1: No space left on device; ')
    assert 'Traceback' in run_script("raise RuntimeError('of our own')").stderr


def test_a_full_disk_in_a_thread_is_one_line_and_other_failures_keep_their_traceback(run_script):
    body = (
        'import threading\n'
        'def work(text):\n'
        '    raise RuntimeError(text)\n'
        "for text in ('/x/e; No space left on device', 'of our own'):\n"
        '    thread = threading.Thread(target=work, args=[text])\n'
        '    thread.start()\n'
        '    thread.join()'
    )
    first, *others = run_script(body).stderr.splitlines()
    assert first.startswith('warning: /x/e: No space left on device; ')
    assert others[0].startswith('Exception in thread') and others[-1].endswith('of our own')


def test_an_output_over_an_input_is_refused_in_every_command(run_script, tmp_path):
    (tmp_path / 'a.csv').write_text('read')
    body = (
        'from preprocessing import files\n'
        'files.read_bytes(positional[0])\n'
        "files.write_bytes(positional[1], b'new')"
    )
    done = run_script(body, str(tmp_path / 'a.csv'), f'{tmp_path}/./a.csv')
    assert (done.returncode, done.stdout) == (2, '')
    assert 'is read by this command' in done.stderr
    assert (tmp_path / 'a.csv').read_text() == 'read'
