"""A fitted ensemble as JSON, and back; what is read is checked to the last number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from utility.ensembles.choice import ALONE, VOTES, WEIGHTS, Ensemble
from utility.ensembles.learning import FittedEnsemble
from utility.ensembles.methods import METHODS
from utility.ensembles.mixture import MixtureWeights, num_features
from utility.ensembles.systematic_errors import Correction
from utility.statistics.shape_model import ShapeModel

_FORMAT = 'keypoint ensemble 1'
_MAX_NUMBER = 1e6  # no fit gives as much, and no sum of products of such numbers overflows
_MAX_MODELS = 1000
_ASYMMETRY = 1e-6  # of the largest entry
_KINDS = {bool: 'b', float: 'fi'}
_NOUNS = {bool: 'of true and false', float: 'numbers'}


class SavedEnsemble(NamedTuple):
    """An ensemble and the names of the models it was fitted to."""

    names: tuple[str, ...]
    ensemble: Ensemble


def to_json(saved: SavedEnsemble, schema: KeypointSchema) -> str:
    """Return a text that from_json reads."""
    ensemble = saved.ensemble
    values = {
        'format': _FORMAT,
        **_schema_values(schema),
        'models': list(saved.names),
        'method': ensemble.method,
        'model': ensemble.model,
        'learned': ensemble.learned and _learned_values(ensemble.learned),
    }
    return json.dumps(values) + '\n'


def from_json(text: str, schema: KeypointSchema, where: str) -> SavedEnsemble:
    """Read an ensemble.

    Args:
        text: Of to_json.
        schema: Of the pictures to combine predictions for.
        where: The text comes from, for error messages.

    Raises:
        UserError: It is not such a text, or of another schema; tells what is wrong.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where}: not JSON: {error}') from error
    try:
        return _saved_ensemble(values, schema)
    except ValueError as error:
        raise UserError(f'{where}: {error}') from error


def _schema_values(schema: KeypointSchema) -> dict[str, Any]:
    categories = {name: list(points) for name, points in schema.categories.items()}
    return {'keypoints': list(schema.keypoints), 'categories': categories}


def _learned_values(learned: FittedEnsemble) -> dict[str, Any]:
    mixture_weights = {name: getattr(learned, name) for name in (WEIGHTS, VOTES)}
    return {
        'correction': _lists(learned.correction._asdict()),
        **{name: value and _lists(value._asdict()) for name, value in mixture_weights.items()},
        'shapes': {
            name: _lists({'mean': shape.mean, 'scatter': shape.scatter})
            for name, shape in learned.shapes.items()
        },
    }


def _lists(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
    return {name: array.tolist() for name, array in arrays.items()}


def _saved_ensemble(values: Any, schema: KeypointSchema) -> SavedEnsemble:
    keys = ('format', 'keypoints', 'categories', 'models', 'method', 'model', 'learned')
    _check_keys(values, keys, 'the file')
    if values['format'] != _FORMAT:
        raise UserError(f'format={values["format"]!r}: must be {_FORMAT!r}')
    for name, expected in _schema_values(schema).items():
        if values[name] != expected:
            raise UserError(f'{name}: are not those of {schema.name}')
    names, method, model = values['models'], values['method'], values['model']
    if not _is_list_of_names(names):
        raise UserError(f'models: must be a list of 1 to {_MAX_MODELS} names')
    methods = [*METHODS.names(), ALONE, WEIGHTS, VOTES]
    if method not in methods:
        raise UserError(f'method={method!r}: must be one of {", ".join(methods)}')
    if type(model) is not int or not 0 <= model < len(names):
        raise UserError(f'model={model!r}: must be from 0 to {len(names) - 1}')
    learned = values['learned']
    if (learned is not None) != (method in (WEIGHTS, VOTES)):
        raise UserError(f'learned: must be there for {WEIGHTS} and {VOTES} only, not {method}')
    if learned is not None:
        learned = _fitted_ensemble(learned, len(names), method, schema)
    return SavedEnsemble(tuple(names), Ensemble(method, model, learned))


def _is_list_of_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MAX_MODELS
        and all(isinstance(name, str) for name in value)
    )


def _fitted_ensemble(
    values: Any, count: int, method: str, schema: KeypointSchema
) -> FittedEnsemble:
    _check_keys(values, ('correction', 'weights', 'votes', 'shapes'), 'learned')
    groups = (len(schema.categories), schema.num_keypoints)
    if (values['votes'] is not None) != (method == VOTES):
        raise UserError(f'learned.votes: must be there for {VOTES} only, not {method}')
    with_shapes, votes = count + 1, None
    if method == VOTES:
        shape = (with_shapes, num_features(with_shapes))
        votes = _mixture_weights(values['votes'], groups, shape, 'learned.votes')
    return FittedEnsemble(
        correction=_correction(values['correction'], (count, *groups)),
        weights=_mixture_weights(values['weights'], groups, (count, 0), 'learned.weights'),
        shapes=_shapes(values['shapes'], schema),
        votes=votes,
    )


def _correction(values: Any, shape: tuple[int, int, int]) -> Correction:
    where = 'learned.correction'
    _check_keys(values, Correction._fields, where)
    return Correction(
        mirrored=_array(values['mirrored'], shape, bool, f'{where}.mirrored'),
        offsets=_array(values['offsets'], (*shape, 2), float, f'{where}.offsets'),
        relative=_array(values['relative'], shape[:1], bool, f'{where}.relative'),
    )


def _mixture_weights(
    values: Any, groups: tuple[int, int], effects: tuple[int, int], where: str
) -> MixtureWeights:
    _check_keys(values, MixtureWeights._fields, where)
    return MixtureWeights(
        biases=_array(values['biases'], (effects[0], *groups), float, f'{where}.biases'),
        effects=_array(values['effects'], effects, float, f'{where}.effects'),
    )


def _shapes(values: Any, schema: KeypointSchema) -> dict[str, ShapeModel]:
    if not isinstance(values, dict) or not set(values) <= set(schema.categories):
        raise UserError('learned.shapes: must have categories of the data set as keys')
    shapes = {}
    for category, parts in values.items():
        where = f'learned.shapes.{category}'
        _check_keys(parts, ('mean', 'scatter'), where)
        size = len(schema.indices(category))
        mean = _array(parts['mean'], (size, 2), float, f'{where}.mean')
        scatter = _array(parts['scatter'], (2 * size, 2 * size), float, f'{where}.scatter')
        if not _is_covariance(scatter):
            raise UserError(f'{where}.scatter: must be symmetric and positive definite')
        shapes[category] = ShapeModel(mean, scatter)
    return shapes


def _is_covariance(matrix: np.ndarray) -> bool:
    if np.abs(matrix - matrix.T).max() > _ASYMMETRY * np.abs(matrix).max():
        return False
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _check_keys(values: Any, expected: Sequence[str], where: str) -> None:
    if not isinstance(values, dict) or set(values) != set(expected):
        raise UserError(f'{where}: must have just the keys {", ".join(expected)}')


def _array(value: Any, shape: tuple[int, ...], kind: type, where: str) -> np.ndarray:
    """Return an array of that shape and kind, bool or float, finite and not huge."""
    problem = f'{where}: must be {" x ".join(map(str, shape))} {_NOUNS[kind]}'
    try:
        array = np.array(value)
    except ValueError as error:
        raise UserError(problem) from error
    if array.shape != shape or (array.dtype.kind not in _KINDS[kind] and array.size):
        raise UserError(problem)
    array = array.astype(kind)
    if kind is float and not (np.abs(array) <= _MAX_NUMBER).all():
        raise UserError(f'{problem} from {-_MAX_NUMBER:g} to {_MAX_NUMBER:g}')
    return array
