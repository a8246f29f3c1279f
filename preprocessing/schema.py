"""What the keypoints of a data set are called, which pair up, and what scales their error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from config import UserError


def _mirrored_name(name: str) -> str:
    """The name of the point on the other side: 'cuff_left_in' -> 'cuff_right_in'."""
    words = {'left': 'right', 'right': 'left'}
    return '_'.join(words.get(word, word) for word in name.split('_'))


@dataclasses.dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a data set.

    Attributes:
        name: Of the data set.
        keypoints: K names; the order of every [.., K, ..] axis.
        categories: Category -> its keypoints.
        normalizers: Category -> the pair of points whose distance divides the error.
        swaps: Pairs that change places in a mirror; None derives them from 'left' and 'right'.
        positions: Of each keypoint among those stored in a record; None: in the order stored.
    """

    name: str
    keypoints: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    normalizers: Mapping[str, tuple[str, str]]
    swaps: tuple[tuple[str, str], ...] | None = None
    positions: tuple[int, ...] | None = None

    def __post_init__(self):
        if len(set(self.keypoints)) != len(self.keypoints):
            raise UserError(f'schema {self.name}: a keypoint is named twice')
        if set(self.categories) != set(self.normalizers):
            raise UserError(f'schema {self.name}: categories and normalizers differ')
        for category, names in self.categories.items():
            unknown = set(names) - set(self.keypoints)
            if unknown:
                raise UserError(f'schema {self.name}: {category} has unknown {sorted(unknown)}')
            if not set(self.normalizers[category]) <= set(names):
                raise UserError(f'schema {self.name}: the normalizer of {category} is not its own')
        permutation = self.flip_permutation
        if any(permutation[permutation[k]] != k for k in range(self.num_keypoints)):
            raise UserError(f'schema {self.name}: mirroring twice does not give the same points')

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
            partner = {name: _mirrored_name(name) for name in self.keypoints}
        else:
            partner = {name: name for name in self.keypoints}
            for a, b in self.swaps:
                partner[a], partner[b] = b, a
        missing = sorted(set(partner.values()) - set(self.keypoints))
        if missing:
            raise UserError(f'schema {self.name}: no keypoint {missing[0]!r} to mirror onto')
        return tuple(self.keypoints.index(partner[name]) for name in self.keypoints)

    def indices(self, category: str) -> tuple[int, ...]:
        """Indices of the category's points, in schema order."""
        names = self._of(category)
        return tuple(k for k, name in enumerate(self.keypoints) if name in names)

    def normalizer_indices(self, category: str) -> tuple[int, int]:
        """Indices of the two points whose distance divides the error of `category`."""
        self._of(category)
        first, second = self.normalizers[category]
        return self.keypoints.index(first), self.keypoints.index(second)

    def subset(self, category: str) -> KeypointSchema:
        """The schema of one category alone; 'all' gives the schema itself."""
        if category == 'all':
            return self
        indices = self.indices(category)
        names = tuple(self.keypoints[k] for k in indices)
        swaps = self.swaps and tuple(pair for pair in self.swaps if set(pair) <= set(names))
        return KeypointSchema(
            name=self.name,
            keypoints=names,
            categories={category: names},
            normalizers={category: self.normalizers[category]},
            swaps=swaps,
            positions=tuple(self.record_positions[k] for k in indices),
        )

    def _of(self, category: str) -> tuple[str, ...]:
        if category not in self.categories:
            raise UserError(
                f'unknown category {category!r}; {self.name} has: {", ".join(self.categories)}'
            )
        return self.categories[category]
