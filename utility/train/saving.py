"""When a training saves: after the log has the step, and without its graph."""

from __future__ import annotations

import tensorflow as tf

from utility.train.guards import SaveOnlyFinite

v1 = tf.compat.v1


class Saver(v1.train.CheckpointSaverHook):
    """Saves variables that are finite: at the start, every few steps and at the end.

    An Estimator adds no hook of its own where this one is. Hooks are called in turn: behind that of
    the log, a step that is saved is in metrics.csv, whenever the process is killed. TensorFlow's
    also writes the graph, twice to the events, for each stretch of a training: 50 MB and a second
    for ResNet-50 CPN. The first writer of events has put it there already.

    Args:
        folder: Of the network.
        every: Steps between two checkpoints.
    """

    def __init__(self, folder: str, every: int):
        super().__init__(
            folder, save_steps=every, listeners=[SaveOnlyFinite()], save_graph_def=False
        )

    def after_create_session(self, session, coord):
        step = session.run(self._global_step_tensor)
        self._save(session, step)
        self._timer.update_last_triggered_step(step)


def starting_at_once() -> v1.train.Scaffold:
    """Return the Scaffold of a training that no other process waits for.

    By default a session asks twice whether all variables have values. Here they are all restored or
    all initialised, in this process; of a large graph each question is built and planned, which
    delays the first step.
    """
    nothing = tf.constant([], tf.string)
    return v1.train.Scaffold(ready_op=nothing, ready_for_local_init_op=nothing)
