"""Where the time of a training step goes: by kinds of operations, one operation at a time."""

from __future__ import annotations

import collections
import re
import statistics
from collections.abc import Callable
from typing import Any

# What an operation does -> how the names of such operations begin; the first that fits counts.
# On a CPU with oneDNN names begin with '_MklNative' or '_Mkl', which is left out.
KINDS = {
    'convolutions': ('Conv2D', 'FusedConv2D', 'MatMul', 'FusedMatMul', 'DepthwiseConv2d'),
    'batch norm': ('FusedBatchNorm',),
    'resizes': ('Resize',),
    'optimiser': ('ResourceApply', 'Assign'),
}
REST = 'the rest'
_PREFIX = re.compile(r'^_?(?:Mkl)?(?:Native)?')


def kind(operation: str) -> str:
    """Return the kind of an operation of this name, such as '_MklNativeConv2DBackpropInput'."""
    name = _PREFIX.sub('', operation)
    for title, begins in KINDS.items():
        if name.startswith(begins):
            return title
    return REST


def one_at_a_time() -> Any:
    """Return settings of a session that runs one operation at a time: times add up."""
    import tensorflow as tf

    return tf.compat.v1.ConfigProto(inter_op_parallelism_threads=1)


def seconds(action: Callable[..., Any], repeats: int) -> dict[str, float]:
    """Return kind -> seconds of a step, medians.

    Args:
        action: A step in a session of `one_at_a_time` that takes `options` and `run_metadata`, as
            Session.run does.
        repeats: Steps that are traced, after one that is not.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    action()
    totals: dict[str, list[float]] = {title: [] for title in (*KINDS, REST)}
    for _ in range(repeats):
        traced = v1.RunMetadata()
        action(options=v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE), run_metadata=traced)
        spent: collections.Counter[str] = collections.Counter()
        for device in traced.step_stats.dev_stats:
            for node in device.node_stats:
                # 'name = Operation(input, ..)'
                operation = node.timeline_label.partition(' = ')[2].partition('(')[0]
                spent[kind(operation)] += node.all_end_rel_micros / 1e6
        for title, values in totals.items():
            values.append(spent[title])
    return {title: statistics.median(values) for title, values in totals.items()}
