"""How a training begins and saves: with few operations in its graph, and after the log has the
step.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint_management
from tensorflow.python.training import saver as tensorflow_saver
from tensorflow.python.training.saving import saveable_object

from nets import graph_variables
from utility.checkpoints import files
from utility.checkpoints.variables import save, variable_name
from utility.train.guards import NotFiniteError, SaveOnlyFinite, not_finite_values

v1 = tf.compat.v1

_INPUT = 'start_of_input'  # collection of a graph


class Saver(v1.train.CheckpointSaverHook):
    """Saves variables that are finite: those of the start, every few steps and at the end.

    An Estimator adds no hook of its own where this one is. Hooks are called in turn: behind that of
    the log, a step that is saved is in metrics.csv, whenever the process is killed. TensorFlow's
    also saves again what a training goes on from; and it writes the graph, twice to the events, for
    each stretch of a training. Here the first stretch writes it once. Before it is done with its
    first step nothing is written: the start is saved then, which follows from what the variables
    are initialized with.

    Args:
        every: Steps between two checkpoints.
        scaffold: Of the session, of starting_at_once; None: the saver is in the graph's collection,
            and the start is saved before the first step.
    """

    def __init__(self, folder: str, every: int, scaffold: v1.train.Scaffold | None = None):
        super().__init__(
            folder,
            save_steps=every,
            listeners=[SaveOnlyFinite()],
            save_graph_def=False,
            scaffold=scaffold,
        )
        self._folder, self._start = folder, {}
        # Before any hook begins, with which the graph would be written at once, and a copy of it.
        self._is_graph_due = _open_events(folder)

    def begin(self):
        super().begin()
        if self._scaffold is not None and not files.newest(self._folder):
            self._start = {variable_name(v): v.initial_value for v in v1.global_variables()}

    def after_create_session(self, session, coord):
        step = session.run(self._global_step_tensor)
        if self._scaffold is None:
            self._save(session, step)
        self._timer.update_last_triggered_step(step)

    def after_run(self, run_context, run_values):
        if self._is_graph_due:
            self._summary_writer.add_graph(run_context.session.graph)
            self._is_graph_due = False
        if self._start:
            self._save_start(run_context.session)
        super().after_run(run_context, run_values)

    def _save_start(self, session) -> None:
        """Save what the training began with, as step 0."""
        values, self._start = session.run(self._start), {}
        problems = not_finite_values(values)
        if problems:
            raise NotFiniteError(f'step 0: variables that are not finite: {problems}')
        prefix = f'{self._save_path}-0'
        with tf.__internal__.eager_context.eager_mode():
            save(prefix, values)
        # As a Saver of TensorFlow's does; the public function keeps no relative paths.
        checkpoint_management.update_checkpoint_state_internal(
            self._folder, prefix, all_model_checkpoint_paths=[prefix], save_relative_paths=True
        )
        self._get_saver().recover_last_checkpoints([prefix])


def _open_events(folder: str) -> bool:
    """Open the file for TensorBoard, without a graph; return whether it was not open."""
    cache = v1.summary.FileWriterCache
    with cache._lock:
        if folder in cache._cache:
            return False
        cache._cache[folder] = v1.summary.FileWriter(folder)
    return True


def starting_at_once(restores: bool, keep: int = 5) -> v1.train.Scaffold:
    """Return the Scaffold of a training that no other process waits for.

    By default a session asks twice whether all variables have values. Here they are all restored or
    all initialized, in this process, and only what does the one or the other is built and run: of a
    large graph each operation and each question delays the first step.

    Args:
        restores: Whether there is a checkpoint to go on from.
        keep: How many of the last checkpoints are kept.
    """
    nothing = tf.constant([], tf.string)
    variables = v1.global_variables()
    graph_variables.read_together(variables)
    saver = v1.train.Saver(
        [_Saved(variable) for variable in variables],
        builder=None if restores else _OnlySaves(),
        sharded=True,
        max_to_keep=keep,
        save_relative_paths=True,
    )
    rest = tf.group(v1.train.Scaffold.default_local_init_op(), *v1.get_collection(_INPUT))
    scaffold = _AtOnce(
        init_op=tf.no_op() if restores else tf.group(v1.global_variables_initializer(), rest),
        local_init_op=rest,
        ready_op=nothing,
        ready_for_local_init_op=nothing,
        saver=saver,
    )
    if restores:
        scaffold.local_init_op = rest
    return scaffold


class _AtOnce(v1.train.Scaffold):
    """A Scaffold that tells a session of no question, and of one operation to run."""

    ready_op = ready_for_local_init_op = local_init_op = None


def beside_the_variables(input_fn: Callable[[], tf.data.Dataset]) -> Callable:
    """Return an input_fn whose first batch is made while variables get their values, where the
    Scaffold is that of starting_at_once; an Estimator would begin with it later.
    """

    def batch():
        iterator = v1.data.make_initializable_iterator(input_fn())
        v1.add_to_collection(_INPUT, iterator.initializer)
        return iterator.get_next()

    return batch


class _Saved(saveable_object.SaveableObject):
    """A variable of a Saver, whose own way to it has an operation that reads this one alone."""

    def __init__(self, variable: tf.Variable):
        name, value = variable_name(variable), variable.graph.as_graph_element(variable)
        spec = saveable_object.SaveSpec(value, '', name, variable.dtype, variable.device)
        super().__init__(variable.handle, [spec], name)
        self._variable = variable

    def restore(self, restored_tensors, restored_shapes):
        return self._variable.assign(restored_tensors[0], read_value=False)


class _OnlySaves(tensorflow_saver.BulkSaverBuilder):
    """Builds a saver that restores nothing."""

    def _AddRestoreOps(self, *arguments, **options):  # noqa: N802  TensorFlow's name
        return tf.no_op('restore_all')
