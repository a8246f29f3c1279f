"""Images of the records that a quantization takes the ranges of its numbers from."""

from __future__ import annotations

import numpy as np

from preprocessing import records
from preprocessing.conversion import decoding, integrity
from preprocessing.schema import KeypointSchema


def images_of(split_dir: str, schema: KeypointSchema, count: int) -> list[np.ndarray]:
    """Return the first images of a split, categories in turn: uint8 [H, W, 3] each.

    Raises:
        UserError: The split holds none of them, or files of it are in pieces.
    """
    integrity.check_split(split_dir, 'all')
    examples = records.first_examples(split_dir, schema, count)
    return [decoding.decode(example['encoded']) for example in examples]
