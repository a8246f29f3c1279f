"""What an ensemble can be expected to gain, for people and for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from utility.command_line.text_table import text_table
from utility.ensembles.choice import ALONE, NUM_FOLDS, Candidate, Choice
from utility.ensembles.selection import Selection
from utility.statistics.bootstrap import LEVEL, Interval, image_sums, ratio_interval

_MAX_SETS_SHOWN = 20


class Gain(NamedTuple):
    """How much lower the NE of what was chosen is than that of something else; fractions."""

    over: str
    interval: Interval


def gains_of(choice: Choice) -> list[Gain]:
    """Return the gains over the best model, mean, median, and the best that learns nothing.

    The intervals are of a bootstrap over pictures. What is learned is measured on pictures that it
    has not seen. They have a say in the choice only, which flatters it a little.
    """
    unlearned = [candidate for candidate in choice.candidates if candidate.strength is None]
    baselines = [
        min(choice.singles, key=lambda single: single.error),
        *(candidate for candidate in unlearned if candidate.method in ('mean', 'median')),
        min(unlearned, key=lambda candidate: candidate.error),
    ]
    by_label = {
        baseline.label: baseline for baseline in baselines if baseline.label != choice.chosen.label
    }
    return [
        Gain(label, ratio_interval(*image_sums(baseline.distances - choice.chosen.distances)))
        for label, baseline in by_label.items()
    ]


def to_dict(choice: Choice, gains: Sequence[Gain], selection: Selection | None) -> dict[str, Any]:
    """Return what has been measured, as plain values; NE as fractions."""
    values = {
        'chosen': choice.chosen.label,
        'method': choice.chosen.method,
        'normalized_error': choice.chosen.error,
        'points': int(np.count_nonzero(~np.isnan(choice.chosen.distances))),
        'images': len(choice.chosen.distances),
        'models': [single.label for single in choice.singles],
        'singles': {single.label: single.error for single in choice.singles},
        'candidates': {candidate.label: candidate.error for candidate in choice.candidates},
        'level': LEVEL,
        'gains': {gain.over: gain.interval._asdict() for gain in gains},
    }
    if selection is not None:
        tried = [
            {'models': _names(selection, models), 'normalized_error': error}
            for models, error in selection.ranked
        ]
        values['selection'] = tried
    return values


def to_text(choice: Choice, gains: Sequence[Gain]) -> str:
    """Return the table of what was measured, NE in percent, and the gains."""
    complete = {single.model for single in choice.singles if _is_complete(single, choice)}
    rows = [(single.label, single.error) for single in choice.singles]
    rows += [
        (candidate.label, candidate.error)
        for candidate in choice.candidates
        if not (candidate.method == ALONE and candidate.model in complete)
    ]
    chosen = choice.chosen
    lines = [f'NE % of {len(chosen.distances)} images, learned ones in {NUM_FOLDS} folds']
    lines.append(text_table([label, f'{100 * error:.4f}'] for label, error in rows))
    if len(complete) < len(choice.singles):
        lines.append('A point that a submission lacks counts as predicted at pixel (-1, -1).')
    lines += ['', f'chosen: {chosen.label}, NE {100 * chosen.error:.4f} %']
    if chosen.strength is None and any(c.strength is not None for c in choice.candidates):
        lines.append('nothing that is learned is better where it was not fitted')
    lines += [_gain_line(gain) for gain in gains]
    return '\n'.join(lines)


def _is_complete(single: Candidate, choice: Choice) -> bool:
    alone = next(c for c in choice.candidates if (c.method, c.model) == (ALONE, single.model))
    return np.array_equal(alone.distances, single.distances, equal_nan=True)


def _gain_line(gain: Gain) -> str:
    value, low, high = (100 * end for end in gain.interval)
    return (
        f'expected gain over {gain.over}: {value:+.4f} percentage points, '
        f'{100 * LEVEL:g} % interval [{low:+.4f}, {high:+.4f}]'
    )


def selection_to_text(selection: Selection) -> str:
    """Return the sets of models that were tried, the best first."""
    rows = [
        (' + '.join(_names(selection, models)), f'{100 * error:.4f}')
        for models, error in selection.ranked
    ]
    lines = ['NE % of sets of models', text_table(rows[:_MAX_SETS_SHOWN])]
    more = len(rows) - _MAX_SETS_SHOWN
    return '\n'.join([*lines, *([f'and {more} more'] * (more > 0))])


def _names(selection: Selection, models: Sequence[int]) -> list[str]:
    return [selection.names[i] for i in models]
