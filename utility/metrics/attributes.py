"""How good the categories and the presence of points are that a network tells.

A point is present if it is annotated, visible or occluded. Only points of the annotated category
are scored: the presence of another's means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from utility.command_line.text_table import text_table
from utility.statistics import reliability

_EVENTS = ('present', 'visible')
_THRESHOLD = 0.5  # from which probability on an event is predicted


def category_report(
    probabilities: np.ndarray, categories: np.ndarray, schema: KeypointSchema
) -> dict[str, Any]:
    """Return how often the most likely category is the annotated one, as plain values.

    Args:
        probabilities: [N, C], C in the order of schema.categories.
        categories: str [N], of the annotations.
        schema: Of both.

    Returns:
        'accuracy'; 'top_2_accuracy', how often it is one of the two likeliest; 'images';
        'per_category', of each annotated category the images, the accuracy
        (recall) and, of those predicted as it, the share that is (precision; null if there are
        none); 'confusion', annotated -> predicted -> images; 'expected_calibration_error' of the
        most likely category, as told and as 'after_scaling' by what other pictures say.
    """
    names = np.array(list(schema.categories))
    given = (names == np.asarray(categories)[:, np.newaxis]).argmax(axis=1)
    predicted = probabilities.argmax(axis=1)
    best_two = np.argsort(-probabilities, axis=1)[:, :2]
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (given, predicted), 1)
    per_category = {
        str(name): {
            'images': int(counts[row].sum()),
            'accuracy': _share(counts[row, row], counts[row].sum()),
            'precision': _share(counts[row, row], counts[:, row].sum()),
        }
        for row, name in enumerate(names)
        if counts[row].any()
    }
    scaled = reliability.cross_scaled(probabilities, given, np.arange(len(given)))
    return {
        'accuracy': _share(np.trace(counts), counts.sum()),
        'top_2_accuracy': _share(np.count_nonzero(best_two == given[:, np.newaxis]), len(given)),
        'images': len(given),
        'per_category': per_category,
        'confusion': {
            str(name): {str(n): int(counts[row, k]) for k, n in enumerate(names) if counts[row, k]}
            for row, name in enumerate(names)
            if counts[row].any()
        },
        'expected_calibration_error': _error_of_best(probabilities, given),
        'after_scaling': {'expected_calibration_error': _error_of_best(scaled, given)},
    }


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _error_of_best(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    is_right = probabilities.argmax(axis=1) == outcomes
    return reliability.expected_calibration_error(probabilities.max(axis=1), is_right)


class ScoredPresence(NamedTuple):
    """What of the presence of points is scored.

    Attributes:
        told: [P, 3], probabilities of absent, occluded and visible.
        outcomes: int [P], what is annotated: 0 absent, 1 occluded, 2 visible.
        images: int [P], the picture of each, in 0..N - 1.
        groups: str [P], of which each is: see presence_group.
    """

    told: np.ndarray
    outcomes: np.ndarray
    images: np.ndarray
    groups: np.ndarray

    def cross_scaled(self, seed: int = 0) -> np.ndarray:
        """Return what is told, scaled group by group by what other pictures say: [P, 3]. They are
        divided at random, by the seed.
        """
        columns = (self.told, self.outcomes, self.images, self.groups)
        return reliability.cross_scaled(*columns, seed=seed)


def presence_group(category: str, k: int, schema: KeypointSchema) -> str:
    """Return the name of the group that the presence of a point of a category is scaled in: that of
    the category and of the point with the one that it is mirrored to.
    """
    return f'{category}/{schema.keypoints[min(k, schema.flip_permutation[k])]}'


def scored_presence(
    presence: np.ndarray, visibility: np.ndarray, categories: np.ndarray, schema: KeypointSchema
) -> ScoredPresence:
    """Return what of the presence of points is scored: of those of the annotated categories.

    Args:
        presence: [N, K, 3], probabilities of absent, occluded and visible.
        visibility: int [N, K], annotated.
        categories: str [N], annotated.
    """
    own = np.zeros(visibility.shape, bool)
    for category in schema.categories:
        own[np.ix_(np.asarray(categories) == category, schema.indices(category))] = True
    own &= presence.sum(axis=-1) > 0  # the network knows the point
    places = np.argwhere(own)
    groups = [presence_group(categories[row], k, schema) for row, k in places]
    return ScoredPresence(
        presence[own], np.asarray(visibility)[own] + 1, places[:, 0], np.array(groups, str)
    )


def presence_report(
    presence: np.ndarray, visibility: np.ndarray, categories: np.ndarray, schema: KeypointSchema
) -> dict[str, Any]:
    """Return how good the probabilities of presence are, as plain values; see scored_presence.

    Returns:
        'all' and 'per_category', each with 'points' and, for 'present' and 'visible', the 'share'
        of the points that are, 'precision' and 'recall' of those predicted to be, at a probability
        of 0.5, and 'expected_calibration_error'; 'after_scaling' has the same of probabilities that
        are scaled by what other pictures say. 'reliability' has the bins of both.
    """
    scored = scored_presence(presence, visibility, categories, schema)
    labels = np.asarray(categories)[scored.images]
    before, after = (
        _presence_parts(told, scored.outcomes, labels, schema)
        for told in (scored.told, scored.cross_scaled())
    )
    return {**before, 'after_scaling': after}


def _presence_parts(told, outcomes, labels, schema: KeypointSchema) -> dict[str, Any]:
    parts = {c: labels == c for c in schema.categories}
    return {
        'all': _presence_scores(told, outcomes),
        'per_category': {
            c: _presence_scores(told[own], outcomes[own]) for c, own in parts.items() if own.any()
        },
        'reliability': {
            event: [
                own._asdict() for own in reliability.reliability(*_event(told, outcomes, event))
            ]
            for event in _EVENTS
        },
    }


def _event(told: np.ndarray, outcomes: np.ndarray, event: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities [P] of an event, and whether it is annotated, bool [P]."""
    first = 1 + _EVENTS.index(event)  # of the outcomes in which it happens
    return told[:, first:].sum(axis=1), outcomes >= first


def _presence_scores(told: np.ndarray, outcomes: np.ndarray) -> dict[str, Any]:
    scores: dict[str, Any] = {'points': len(outcomes)}
    for event in _EVENTS:
        probabilities, happened = _event(told, outcomes, event)
        predicted = probabilities >= _THRESHOLD
        both = np.count_nonzero(predicted & happened)
        scores[event] = {
            'share': float(happened.mean()) if len(happened) else None,
            'precision': _share(both, np.count_nonzero(predicted)),
            'recall': _share(both, np.count_nonzero(happened)),
            'expected_calibration_error': reliability.expected_calibration_error(
                probabilities, happened
            ),
        }
    return scores


def report_of(predictions: Any, answers: Any, schema: KeypointSchema) -> dict[str, Any]:
    """Return 'category' and 'presence', as far as they are told, of what the two functions say.

    Args:
        predictions: With category_probabilities [N, C] and presence [N, K, 3], or None each.
        answers: With categories [N] and visibility [N, K] of the same pictures, in this order.
        schema: Of both.
    """
    report = {}
    if predictions.category_probabilities is not None:
        report['category'] = category_report(
            predictions.category_probabilities, answers.categories, schema
        )
    if predictions.presence is not None:
        report['presence'] = presence_report(
            predictions.presence, answers.visibility, answers.categories, schema
        )
    return report


def format_report(report: Mapping[str, Any]) -> str:
    """Return what report_of gives as tables for people, all numbers in percent."""
    parts = []
    if 'category' in report:
        parts.append(_category_text(report['category']))
    if 'presence' in report:
        parts.append(_presence_text(report['presence']))
    return '\n\n'.join(parts)


def _percent(share: float | None) -> str:
    return '' if share is None else f'{100 * share:.2f}'


def _category_text(report: Mapping[str, Any]) -> str:
    rows = [['category', 'images', 'recall %', 'precision %', 'taken for']]
    for name, own in report['per_category'].items():
        others = {n: k for n, k in report['confusion'][name].items() if n != name}
        wrong = ', '.join(f'{k} {n}' for n, k in others.items())
        rows.append(
            [name, own['images'], _percent(own['accuracy']), _percent(own['precision']), wrong]
        )
    errors = (report, report['after_scaling'])
    before, after = (_percent(one['expected_calibration_error']) for one in errors)
    right, either = (_percent(report[name]) for name in ('accuracy', 'top_2_accuracy'))
    return (
        f'{text_table(rows)}\n{right} % of {report["images"]} categories are right, {either} % one '
        f'of the two likeliest; expected calibration error {before} points, {after} after scaling'
    )


def _presence_text(report: Mapping[str, Any]) -> str:
    titles = (f'{event} %,precision,recall,ECE,scaled'.split(',') for event in _EVENTS)
    rows = [['presence', 'points', *(title for part in titles for title in part)]]
    scaled = report['after_scaling']
    parts = {'all': (report['all'], scaled['all'])}
    parts.update({c: (own, scaled['per_category'][c]) for c, own in report['per_category'].items()})
    keys = ('share', 'precision', 'recall', 'expected_calibration_error')
    for name, (own, after) in parts.items():
        cells = [name, own['points']]
        for event in _EVENTS:
            cells += [_percent(own[event][key]) for key in keys]
            cells.append(_percent(after[event]['expected_calibration_error']))
        rows.append(cells)
    return (
        f'{text_table(rows)}\n'
        'ECE: expected calibration error, points; scaled: the same after scaling by other pictures'
    )
