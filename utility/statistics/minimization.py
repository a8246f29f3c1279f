"""Minimises smooth functions of many variables."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

_MEMORY = 10  # steps that the curvature is known from
_ENOUGH = 1e-4  # of the decrease that the slope promises (Armijo)
_LEAST_STEP = 1e-6  # of the step that the curvature suggests

ValueAndGradient = Callable[[np.ndarray], tuple[float, np.ndarray]]


def minimize(
    function: ValueAndGradient,
    start: np.ndarray,
    max_steps: int = 200,
    tolerance: float = 2e-5,
    max_change: float = np.inf,
) -> np.ndarray:
    """L-BFGS (J. Nocedal, Updating quasi-Newton matrices with limited storage, 1980).

    Args:
        function: x [D] -> its value and its gradient [D].
        start: [D]; stays as it is.
        max_steps: The most steps.
        tolerance: Ends where two steps in turn each lessen the value by less than this share of it.
        max_change: Of a variable in one step; keeps the first steps, which know little of the
            curvature, from where the function is flat.

    Returns:
        float64 [D], where the value is least; it is never more than at the start.
    """
    x = np.array(start, dtype=np.float64)
    value, gradient = function(x)
    memory: deque = deque(maxlen=_MEMORY)
    num_slow = 0
    for _ in range(max_steps):
        direction = -_curved(gradient, memory)
        direction *= min(1.0, max_change / max(np.abs(direction).max(), _LEAST_STEP))
        found = _step(function, x, value, gradient @ direction, direction)
        if found is None:
            break
        step, new_value, new_gradient = found
        change = new_gradient - gradient
        if step @ change > 0:
            memory.append((step, change))
        num_slow = num_slow + 1 if value - new_value <= tolerance * abs(value) else 0
        x, value, gradient = x + step, new_value, new_gradient
        if num_slow == 2:
            break
    return x


def _curved(gradient: np.ndarray, memory: deque) -> np.ndarray:
    """The gradient times the inverse of the Hessian that the steps of the memory tell of."""
    result, shares = gradient.copy(), []
    for step, change in reversed(memory):
        shares.append((step @ result) / (step @ change))
        result -= shares[-1] * change
    if memory:
        step, change = memory[-1]
        result *= (step @ change) / (change @ change)
    else:
        result /= max(np.linalg.norm(gradient), 1.0)
    for (step, change), share in zip(memory, reversed(shares)):
        result += (share - (change @ result) / (step @ change)) * step
    return result


def _step(
    function: ValueAndGradient, x: np.ndarray, value: float, slope: float, direction: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """A step that lessens the value enough, the value and the gradient there; None if none does."""
    share = 1.0
    while slope < 0 and share > _LEAST_STEP:
        new_value, new_gradient = function(x + share * direction)
        if new_value <= value + _ENOUGH * share * slope:
            return share * direction, new_value, new_gradient
        share /= 2
    return None
