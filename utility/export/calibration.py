"""Images of the records that a quantization takes the ranges of its numbers from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging

from preprocessing import records
from preprocessing.conversion import decoding, integrity
from preprocessing.schema import KeypointSchema
from utility.export.graph import ExportGraph

# Some networks have activations 50 times as large on one image as on another. A range that holds
# both leaves five steps for most images, and none of their points is found then.
_MOST_TIMES_MEDIAN = 4.0


def images_of(split_dir: str, schema: KeypointSchema, count: int) -> list[np.ndarray]:
    """Return the first images of a split, categories in turn: uint8 [H, W, 3] each.

    Raises:
        UserError: The split holds none of them, or files of it are in pieces.
    """
    integrity.check_split(split_dir, 'all')
    examples = records.first_examples(split_dir, schema, count)
    return [decoding.decode(example['encoded']) for example in examples]


def crops_of(images: Sequence[np.ndarray], graph: ExportGraph) -> list[np.ndarray]:
    """Return the crops to calibrate with, float32 [h, w, 3] in 0..255, of those images, uint8
    [H, W, 3] each, on which the activations of the network are not exceptionally large.
    """
    crops = [graph.crop(image)[0].numpy() for image in images]
    if not crops:
        return []
    largest = np.concatenate([graph.largest_activations(c[np.newaxis]).numpy() for c in crops])
    kept = usual(largest)
    if not kept.all():
        logging.info(
            '%d of %d images are left out of the calibration: their activations are more than %g '
            'times as large as usual',
            np.sum(~kept),
            len(kept),
            _MOST_TIMES_MEDIAN,
        )
    return [crop for crop, is_kept in zip(crops, kept) if is_kept]


def usual(largest: np.ndarray) -> np.ndarray:
    """Return which images are like most in their largest activations: bool [N], at least half.

    Args:
        largest: [N, L], of each image in each of L layers, at least 0.
    """
    medians = np.maximum(np.median(largest, axis=0), np.finfo(np.float32).tiny)
    times = (largest / medians).max(axis=1)
    return times <= _MOST_TIMES_MEDIAN * max(1.0, np.median(times))
