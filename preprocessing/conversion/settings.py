"""What to convert, how, and which pictures are for validation."""

from __future__ import annotations

import dataclasses

from config import MAX_PROCESSES, UserError

SMALLEST_SIDE = 8  # px, of a picture that is accepted (decoding.MIN_SIDE)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to convert, and how.

    A picture is for validation by a hash of its content, read as a fraction: if that is below
    val_fraction, or in the fold's share of [0, 1). So equal pictures are always on one side.

    Attributes:
        data_dir: Holds the splits.
        records_dir: Is written.
        dataset: Name in DATASETS.
        schema: Path of a schema file, of data in a format for any keypoints; None: the data have
            their schema.
        point_offset: As of datasets.Source.
        allow_links: As of datasets.Source.
        splits: Names of splits; empty for all that are found.
        val_fraction: Share of the labelled pictures that is kept for validation, in [0, 1).
        num_shards: Files per split and category; None: one per PICTURES_PER_SHARD pictures.
        skip_bad_images: Whether bad pictures are listed and left out; if not, one ends the run.
        num_workers: At most so many processes; 1 works in this one.
        folds: Into how many parts of about the same size labelled pictures are split for cross
            validation, instead of val_fraction; None: into none.
        fold: Which of these is for validation, from 0 on.
        max_side: Pictures with a longer side, px, are stored smaller, which saves reading and
            decoding; points and sizes stay those of the original. None: as they are.
        keeps_damaged: Whether JPEGs are used of which a decoder says that parts are lost.
        corrections: CSV of corrections of the annotations; None: they are taken as they are.
    """

    data_dir: str
    records_dir: str
    dataset: str = 'fashionai'
    schema: str | None = None
    point_offset: float | None = None
    allow_links: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    val_fraction: float = 0.015
    num_shards: int | None = None
    skip_bad_images: bool = True
    num_workers: int = 1
    folds: int | None = None
    fold: int | None = None
    max_side: int | None = None
    corrections: str | None = None
    keeps_damaged: bool = False

    def __post_init__(self):
        if not 0 <= self.val_fraction < 1:
            raise UserError(f'val_fraction={self.val_fraction}: must be in [0, 1)')
        if self.num_shards is not None and not 1 <= self.num_shards <= 99999:
            raise UserError(f'num_shards={self.num_shards}: must be in 1 .. 99999')
        if self.max_side is not None and self.max_side < SMALLEST_SIDE:
            raise UserError(f'max_side={self.max_side}: must be at least {SMALLEST_SIDE}')
        if not 1 <= self.num_workers <= MAX_PROCESSES:
            raise UserError(f'num_workers={self.num_workers}: must be in 1 .. {MAX_PROCESSES}')
        if (self.folds is None) != (self.fold is None):
            raise UserError(f'folds={self.folds}, fold={self.fold}: must be given together')
        if self.folds is not None and not 2 <= self.folds <= 100:
            raise UserError(f'folds={self.folds}: must be in 2 .. 100')
        if self.folds is not None and not 0 <= self.fold < self.folds:
            raise UserError(f'fold={self.fold}: must be in 0 .. {self.folds - 1}')

    @property
    def val_range(self) -> tuple[float, float]:
        """The hashes of pictures for validation, as fractions: from the first, below the second."""
        if self.folds is None:
            return 0.0, self.val_fraction
        return self.fold / self.folds, (self.fold + 1) / self.folds

    def is_for_validation(self, digest: bytes) -> bool:
        """Return whether a labelled picture is, by a hash of its content."""
        low, high = self.val_range
        return low <= int.from_bytes(digest[:6], 'big') / 2**48 < high

    def describe(self) -> dict:
        """Return what the records depend on, for dataset.json."""
        return {
            'val_fraction': self.val_fraction if self.folds is None else None,
            'folds': self.folds,
            'fold': self.fold,
            'num_shards': self.num_shards,
            'skip_bad_images': self.skip_bad_images,
            'max_side': self.max_side,
            'keeps_damaged': self.keeps_damaged,
        }
