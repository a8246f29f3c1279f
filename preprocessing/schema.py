"""What the keypoints of a data set are called, which pair up, and what else is known of them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Union

from config import UserError

# What may divide the errors of a category, beside the distance of two of its points: a length made
# of the garment's box, or the square root of the picture's area.
BOX_DIAGONAL, BOX_AREA_ROOT, PICTURE_SIZE = 'box_diagonal', 'sqrt_box_area', 'picture_size'
SIZES = (BOX_DIAGONAL, BOX_AREA_ROOT, PICTURE_SIZE)

# What the best checkpoint of a training may be chosen by -> whether more of it is better.
METRICS = {'ne': False, 'epe': False, 'pck': True, 'auc': True, 'oks_ap': True}

Pair = tuple[str, str]
Normalizer = Union[Pair, str]
# From where to where a length is measured: the middle of one or two points, and that of others.
Measurement = tuple[tuple[str, ...], tuple[str, ...]]

_SIDE = re.compile('(?<![a-z])(left|right)(?![a-z])', re.IGNORECASE)
_END = re.compile('(?<![a-z])(in|out)(?![a-z])', re.IGNORECASE)
_OPPOSITES = {'left': 'right', 'right': 'left', 'in': 'out', 'out': 'in'}


def _opposite_name(name: str, words: re.Pattern) -> str:
    """Return the name with each of these words replaced: 'cuff_left_in' -> 'cuff_right_in'."""

    def opposite(match: re.Match) -> str:
        word = _OPPOSITES[match[0].lower()]
        return word.title() if match[0].istitle() else word.upper() if match[0].isupper() else word

    return words.sub(opposite, name)


def named_pairs(names: Sequence[str], words: str = 'sides') -> tuple[Pair, ...]:
    """Return pairs of names that differ in 'left' or 'right' ('sides'), 'in' or 'out' ('ends').

    Returns:
        (left, right) or (in, out), for those names whose partner is there, too.
    """
    pattern, first = (_SIDE, 'left') if words == 'sides' else (_END, 'in')
    partners = {name: _opposite_name(name, pattern) for name in names}
    return tuple(
        (name, other)
        for name, other in partners.items()
        if other != name and other in partners and pattern.search(name)[0].lower() == first
    )


@dataclasses.dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a data set, and what is known of all its pictures.

    All but the first four fields may be left out: what needs them is then not done.

    Attributes:
        name: Of the data set.
        keypoints: K names; the order of every [.., K, ..] axis.
        categories: Category -> its keypoints.
        normalizers: Category -> what divides the error: a pair of points, whose distance it is, or
            one of SIZES.
        swaps: Pairs that change places in a mirror; None derives them from 'left' and 'right'.
        positions: Of each keypoint among those stored in a record; None: in the order stored.
        skeleton: Chains of points that are joined by lines where they are drawn. What a category
            has not is passed over; what a picture lacks is not.
        in_out: Pairs of the inner and the outer end of an edge; None derives them from the words
            'in' and 'out' in the names.
        left_of: Pairs of which the first usually stands left of the second in the picture.
        levels: Keypoint -> number from the top: of two points on one side the one of the smaller
            number usually stands higher. Points without a number may be anywhere.
        usual_side: The longest side of most pictures, px, and of none more.
        usual_middle: Where the middle of a picture's points is, twice over the picture's size: the
            least and the largest median that whole data have.
        usual_reach: How far points reach in some pictures, as a share of its size.
        sigmas: Keypoint -> how far annotators are from each other, in square roots of the garment's
            area, for OKS; those without are given a usual one.
        metric: One of METRICS; the best checkpoint of a training is chosen by it. 'oks_ap' takes
            the square of the normalizer for the area, which must be sqrt_box_area.
        measurements: What is measured of a garment, such as its chest -> its two ends.
    """

    name: str
    keypoints: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    normalizers: Mapping[str, Normalizer]
    swaps: tuple[Pair, ...] | None = None
    positions: tuple[int, ...] | None = None
    skeleton: tuple[tuple[str, ...], ...] = ()
    in_out: tuple[Pair, ...] | None = None
    left_of: tuple[Pair, ...] = ()
    levels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    usual_side: int | None = None
    usual_middle: tuple[float, float] | None = None
    usual_reach: float | None = None
    sigmas: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metric: str = 'ne'
    measurements: Mapping[str, Measurement] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if len(set(self.keypoints)) != len(self.keypoints):
            raise self._error('a keypoint is named twice')
        if set(self.categories) != set(self.normalizers):
            raise self._error('categories and normalizers differ')
        for category, names in self.categories.items():
            self._check_names(category, names)
            self._check_normalizer(category)
        permutation = self.flip_permutation
        if any(permutation[permutation[k]] != k for k in range(self.num_keypoints)):
            raise self._error('mirroring twice does not give the same points')
        for field in ('skeleton', 'in_out', 'left_of'):
            for names in getattr(self, field) or ():
                self._check_names(field, names)
                if len(set(names)) != len(names) or len(names) < 2:
                    raise self._error(f'{field} has {list(names)}: must be two different points')
        self._check_names('levels', self.levels)
        for name, ends in self.measurements.items():
            self._check_measurement(name, ends)
        for field in ('usual_side', 'usual_reach'):
            value = getattr(self, field)
            if value is not None and not 0 < value < math.inf:
                raise self._error(f'{field}={value}: must be positive')
        if self.usual_middle and not 0 < self.usual_middle[0] <= self.usual_middle[1] < math.inf:
            raise self._error(f'usual_middle={self.usual_middle}: must be two ascending numbers')
        self._check_metric()

    def _error(self, problem: str) -> UserError:
        return UserError(f'schema {self.name}: {problem}')

    def _check_names(self, place: str, names: Iterable[str]) -> None:
        unknown = set(names) - set(self.keypoints)
        if unknown:
            raise self._error(f'{place} has unknown {sorted(unknown)}')

    def _check_normalizer(self, category: str) -> None:
        normalizer = self.normalizers[category]
        if isinstance(normalizer, str):
            if normalizer not in SIZES:
                allowed = f'a pair of its points or one of {", ".join(SIZES)}'
                raise self._error(f'the normalizer of {category} is {normalizer!r}, not {allowed}')
        elif len(set(normalizer)) != 2 or not set(normalizer) <= set(self.categories[category]):
            raise self._error(f'the normalizer of {category} is not its own')

    def _check_metric(self) -> None:
        self._check_names('sigmas', self.sigmas)
        for name, sigma in self.sigmas.items():
            if not 0 < sigma < math.inf:
                raise self._error(f'sigmas has {sigma} for {name}: must be positive')
        if self.metric not in METRICS:
            raise self._error(f'metric={self.metric!r}: must be one of {", ".join(METRICS)}')
        if self.metric == 'oks_ap' and set(self.normalizers.values()) != {BOX_AREA_ROOT}:
            raise self._error(f"metric='oks_ap': all normalizers must be {BOX_AREA_ROOT}")

    def _check_measurement(self, name: str, ends: Measurement) -> None:
        points = [point for end in ends for point in end]
        self._check_names(f'measurements: {name}', points)
        if len(ends) != 2 or not all(map(len, ends)) or len(set(points)) != len(points):
            raise self._error(f'measurements: {name} is not between two groups of different points')

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @property
    def record_positions(self) -> tuple[int, ...]:
        """Of each of the K keypoints, its place in the records."""
        return self.positions or tuple(range(self.num_keypoints))

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Row k of a mirrored picture's points is row flip_permutation[k] of the plain ones'."""
        if self.swaps is None:
            partner = {name: _opposite_name(name, _SIDE) for name in self.keypoints}
        else:
            partner = {name: name for name in self.keypoints}
            for a, b in self.swaps:
                partner[a], partner[b] = b, a
        missing = sorted(set(partner.values()) - set(self.keypoints))
        if missing:
            raise self._error(f'no keypoint {missing[0]!r} to mirror onto')
        return tuple(self.keypoints.index(partner[name]) for name in self.keypoints)

    @property
    def side_pairs(self) -> tuple[tuple[int, int], ...]:
        """Indices of the points that change places in a mirror, those of each pair ascending."""
        return tuple((k, p) for k, p in enumerate(self.flip_permutation) if k < p)

    @property
    def in_out_pairs(self) -> tuple[tuple[int, int], ...]:
        """Indices of the inner and the outer end of an edge, such as a cuff or a leg."""
        pairs = named_pairs(self.keypoints, 'ends') if self.in_out is None else self.in_out
        return tuple((self.keypoints.index(a), self.keypoints.index(b)) for a, b in pairs)

    def indices(self, category: str) -> tuple[int, ...]:
        """Return indices of the category's points, in schema order."""
        names = self._of(category)
        return tuple(k for k, name in enumerate(self.keypoints) if name in names)

    def normalizer_indices(self, category: str) -> tuple[int, int] | None:
        """Return indices of the two points whose distance divides the error of `category`.

        None where another length does: the value of `normalizers`, one of SIZES.
        """
        self._of(category)
        if isinstance(self.normalizers[category], str):
            return None
        first, second = self.normalizers[category]
        return self.keypoints.index(first), self.keypoints.index(second)

    def subset(self, category: str) -> KeypointSchema:
        """Return the schema of one category alone; 'all' gives the schema itself."""
        if category == 'all':
            return self
        indices = self.indices(category)
        names = tuple(self.keypoints[k] for k in indices)

        def own(pairs):
            return pairs and tuple(pair for pair in pairs if set(pair) <= set(names))

        chains = (tuple(n for n in chain if n in names) for chain in self.skeleton)
        return dataclasses.replace(
            self,
            keypoints=names,
            categories={category: names},
            normalizers={category: self.normalizers[category]},
            swaps=own(self.swaps),
            positions=tuple(self.record_positions[k] for k in indices),
            skeleton=tuple(chain for chain in chains if len(chain) > 1),
            in_out=own(self.in_out),
            left_of=own(self.left_of),
            levels={name: level for name, level in self.levels.items() if name in names},
            sigmas={name: sigma for name, sigma in self.sigmas.items() if name in names},
            measurements=self.measurements_of(category),
        )

    def measurements_of(self, category: str) -> dict[str, Measurement]:
        """Return those of the measurements that the category has all points of."""
        names = set(self._of(category))
        return {
            name: ends
            for name, ends in self.measurements.items()
            if names.issuperset(point for end in ends for point in end)
        }

    def _of(self, category: str) -> tuple[str, ...]:
        if category not in self.categories:
            raise UserError(
                f'unknown category {category!r}; {self.name} has: {", ".join(self.categories)}'
            )
        return self.categories[category]
