"""Variables of a graph that is run by sessions, with as few operations as they need.

A variable of TensorFlow's comes with operations that read it, ask whether it has a value and give
it one, and with a tensor of its own for that value. A network has hundreds of variables, and each
operation delays the first step or prediction. Here there is a handle; what else there is to a
variable is made when it is asked for.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from nets import operations

v1 = tf.compat.v1

# Attribute of a graph: (value, shape, dtype) -> the tensor of that value, which all share. A
# mapping of graphs would keep them: a tensor refers to its graph, so even a weak key never dies.
_CONSTANTS = '_constants_of_nets'


def make(
    name: str,
    shape: Sequence[int],
    initial: Callable[[], tf.Tensor] | float,
    dtype: tf.DType = tf.float32,
    **options,
) -> tf.Variable:
    """Make a variable in the current name scope.

    Args:
        name: Within the scope.
        shape: Of it.
        initial: The value at first: what makes the tensor, or a number that all elements have.
        dtype: Of it.
        options: trainable, synchronization and aggregation, as of tf.Variable.
    """
    if not is_lean():
        value = initial if callable(initial) else lambda: tf.constant(initial, dtype, shape)
        # Not tf.Variable, which leaves replicas in the checkpoint under MirroredStrategy.
        return v1.Variable(value, name=name, use_resource=True, **options)
    graph = v1.get_default_graph()
    # As tf.init_scope, which takes longer: outside of what is being built.
    with graph.control_dependencies(None):
        name, shape = graph.unique_name(name), tf.TensorShape(shape)
        handle = operations.make(
            'VarHandleOp', dtype=dtype, shape=shape, shared_name=name, name=name + '/'
        )
    return _GraphVariable(name, handle, shape, initial, dtype, **options)


def zeros_beside(name: str, variables: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Return variables 'variable/name' of the same shapes, 0 at first and not trained; of a graph
    of sessions on one device, where they have one operation together.
    """
    graph = v1.get_default_graph()
    shapes, dtypes = [v.shape for v in variables], [v.dtype for v in variables]
    with graph.control_dependencies(None), graph.name_scope(None):
        names = [graph.unique_name(f'{v.name.split(":")[0]}/{name}') for v in variables]
        handles = operations.make(
            '_VarHandlesOp',
            containers=[''] * len(names),
            shared_names=names,
            N=len(names),
            dtypes=dtypes,
            shapes=shapes,
            name=name,
        )
    made = []
    for row in zip(names, handles if len(names) > 1 else [handles], shapes, dtypes):
        full_name, handle, shape, dtype = row
        variable = _GraphVariable(full_name, handle, shape, 0.0, dtype, trainable=False)
        # TensorFlow's Saver names a variable after the operation of its handle, or as told here.
        variable._set_save_slice_info(types.SimpleNamespace(full_name=full_name, spec=''))
        made.append(variable)
    return made


def read(variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
    """Return the values of variables; those of this module are read by one operation."""
    lean = [variable for variable in variables if isinstance(variable, _GraphVariable)]
    values = iter(())
    if lean:
        handles, dtypes = zip(*((variable.handle, variable.dtype) for variable in lean))
        outputs = operations.make('_ReadVariablesOp', resources=[*handles], dtypes=[*dtypes])
        values = iter([outputs] if len(lean) == 1 else outputs)
    return [
        next(values) if isinstance(variable, _GraphVariable) else tf.convert_to_tensor(variable)
        for variable in variables
    ]


def read_together(variables: Sequence[tf.Variable]) -> None:
    """Have whoever fetches any of the variables, as those do who save them, read all at once."""
    lean = [variable for variable in variables if isinstance(variable, _GraphVariable)]
    with v1.get_default_graph().control_dependencies(None):
        for variable, value in zip(lean, read(lean)):
            variable._parts.setdefault('Read', value)


def constant(
    value: float | tuple[float, ...], shape: Sequence[int] = (), dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Return a tensor of a number for all elements of a shape, or of some numbers; in a graph of
    sessions always the same.
    """
    if not is_lean():
        return tf.constant(value, dtype, shape if len(shape) else None)
    return _constant_of(v1.get_default_graph(), value, tuple(shape), dtype)


def _constant_of(graph: tf.Graph, value, shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    if not hasattr(graph, _CONSTANTS):
        setattr(graph, _CONSTANTS, {})
    constants = getattr(graph, _CONSTANTS)
    key = value, shape, dtype
    if key not in constants:
        with graph.as_default(), tf.init_scope(), tf.device(None), tf.name_scope('constants/'):
            number = tf.constant(value, dtype)
            # Not a constant of the shape, which the graph would hold as long as it is there.
            constants[key] = tf.fill(shape, number) if shape else number
    return constants[key]


def is_lean() -> bool:
    """Return whether this is a graph of sessions, on one device."""
    return operations.has_sessions() and not tf.distribute.has_strategy()


class _GraphVariable(resource_variable_ops.BaseResourceVariable):
    """A variable whose operations are made when they are asked for.

    Args:
        full_name: With its scope.
        handle: By which it can be accessed; of no other variable.
        shape, initial, dtype, trainable, options: As of `make`.
    """

    _variable_call = None  # there is no other class to choose

    def __init__(self, full_name, handle, shape, initial, dtype, *, trainable: bool, **options):
        handle._parent_trackable = weakref.ref(self)
        handle._name, handle._unique_id = full_name + ':0', full_name
        self._initial = initial
        self._parts: dict[str, tf.Tensor | tf.Operation] = {}
        super().__init__(
            trainable=trainable,
            shape=shape,
            dtype=dtype,
            handle=handle,
            name=full_name,
            unique_id=full_name,
            handle_name=full_name,
            in_graph_mode=True,
            **options,
        )
        kept_in = [v1.GraphKeys.GLOBAL_VARIABLES]
        kept_in += [v1.GraphKeys.TRAINABLE_VARIABLES] if trainable else []
        self.graph.add_to_collections(kept_in, self)

    def to_proto(self, export_scope: str | None = None) -> None:
        """Return None: no variable is made from a graph that was written."""

    def value(self) -> tf.Tensor:
        return self._read() if operations.has_sessions() else super().value()

    def assign(self, value, use_locking=None, name=None, read_value=True):
        if read_value or not operations.has_sessions():
            return super().assign(value, use_locking, name, read_value)
        value = tf.convert_to_tensor(value, self.dtype)
        return operations.make('AssignVariableOp', resource=self.handle, value=value)

    def _part(self, name: str, make_part: Callable):
        """Return an operation of the variable, which is made the first time."""
        if name not in self._parts:
            graph, scope = self.graph, f'{self._unique_id}/{name}/'
            with graph.as_default(), graph.control_dependencies(None), graph.name_scope(scope):
                self._parts[name] = make_part()
        return self._parts[name]

    def _read(self) -> tf.Tensor:
        return operations.make('ReadVariableOp', resource=self.handle, dtype=self.dtype)

    def _assign_initial(self) -> tf.Operation:
        value = self._initial_value
        return operations.make('AssignVariableOp', resource=self.handle, value=value)

    # What the base class sets to None, and a start from a checkpoint to what it restores.

    @property
    def _graph_element(self):
        return self._part('Read', self._read)

    @_graph_element.setter
    def _graph_element(self, element):
        assert element is None

    @property
    def _initial_value(self):
        if callable(self._initial):
            return self._part('Initializer', self._initial)
        if 'Initializer' not in self._parts:
            value = _constant_of(self.graph, self._initial, tuple(self.shape), self.dtype)
            self._parts['Initializer'] = value
        return self._parts['Initializer']

    @_initial_value.setter
    def _initial_value(self, value):
        if value is not None:
            self._parts['Initializer'] = value

    @property
    def _initializer_op(self):
        return self._part('Assign', self._assign_initial)

    @_initializer_op.setter
    def _initializer_op(self, operation):
        if operation is not None:
            self._parts['Assign'] = operation

    @property
    def _is_initialized_op(self):
        is_initialized = tf.raw_ops.VarIsInitializedOp
        return self._part('IsInitialized', lambda: is_initialized(resource=self.handle))

    @_is_initialized_op.setter
    def _is_initialized_op(self, operation):
        assert operation is None
