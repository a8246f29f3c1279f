"""Progress of long work, where there is no terminal."""

from utility.command_line import progress


def test_the_items_pass_and_the_end_is_told(capsys):
    assert list(progress.track(iter('abc'), 3, 'reading')) == ['a', 'b', 'c']
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('reading: 3/3 (100 %)')


def test_a_line_comes_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, 'SECONDS_PER_LINE', 0.0)
    assert list(progress.track(iter('ab'), None, 'reading')) == ['a', 'b']
    starts = [line.split(',')[0] for line in capsys.readouterr().err.splitlines()]
    assert starts == ['reading: 1', 'reading: 2', 'reading: 2']


def test_items_are_taken_one_by_one():
    taken = []
    tracked = progress.track((taken.append(n) or n for n in range(5)), 5, 'reading')
    assert next(tracked) == 0
    assert taken == [0]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    assert list(progress.track(range(3), 3, 'reading')) == [0, 1, 2]
    assert 'reading: 100%' in capsys.readouterr().err
