"""The best checkpoint of a training by its validation NE, kept beside the last ones."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping

from absl import logging

from utility.checkpoints import evaluations, snapshots


def best_step(results: Mapping[int, evaluations.Metrics]) -> int | None:
    """Return the step of the lowest NE, the earliest of several; None if no evaluation had one."""
    errors = {step: metrics.get(evaluations.ERROR, math.nan) for step, metrics in results.items()}
    known = [step for step, error in errors.items() if not math.isnan(error)]
    return min(known, key=lambda step: (errors[step], step), default=None)


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """Evaluation callback: copies the evaluated weights of the network if none were better.

    Attributes:
        folder: Of the network; the copy stands in its sub-folder snapshots.BEST.
    """

    folder: str

    def __call__(self, step: int, metrics: evaluations.Metrics) -> None:
        if best_step(evaluations.read(self.folder, up_to=step)) != step:
            return
        weights = snapshots.read_weights(snapshots.evaluated(self.folder, step))
        best = os.path.join(self.folder, snapshots.BEST)
        if snapshots.holds(best, step, weights):  # of an earlier start; its path stays
            return
        path = snapshots.replace(best, step, weights)
        logging.info('%s: the best up to now, NE %.2f %%', path, 100 * metrics[evaluations.ERROR])
