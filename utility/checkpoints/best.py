"""The best checkpoint of a training by the metric of its schema, kept beside the last ones."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping

from absl import logging

from utility.checkpoints import evaluations, snapshots


def best_step(
    results: Mapping[int, evaluations.Metrics], metric: str = evaluations.NE
) -> int | None:
    """Return the step of the best evaluation, the earliest of several; None if none has the metric.

    Args:
        results: Step -> result.
        metric: One of schema.METRICS.
    """
    costs = {step: evaluations.cost(result, metric) for step, result in results.items()}
    known = [step for step, cost in costs.items() if not math.isnan(cost)]
    return min(known, key=lambda step: (costs[step], step), default=None)


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """Evaluation callback: copies the evaluated weights of the network if none were better.

    Attributes:
        folder: Of the network; the copy stands in its sub-folder snapshots.BEST.
        metric: What the best is chosen by, one of schema.METRICS.
    """

    folder: str
    metric: str = evaluations.NE

    def __call__(self, step: int, metrics: evaluations.Metrics) -> None:
        if best_step(evaluations.read(self.folder, up_to=step), self.metric) != step:
            return
        weights = snapshots.read_weights(snapshots.evaluated(self.folder, step))
        best = os.path.join(self.folder, snapshots.BEST)
        if snapshots.holds(best, step, weights):  # of an earlier start; its path stays
            return
        path = snapshots.replace(best, step, weights)
        score = evaluations.describe_metric(metrics, self.metric)
        logging.info('%s: the best up to now, %s', path, score)
