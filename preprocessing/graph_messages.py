"""Messages with which a graph fails, and what finds them in TensorFlow's error.

tf.debugging.Assert takes tensors and gives one text, in which they stand among words of
TensorFlow's. A message is put between marks, which alone say of what kind it is: its wording is for
people. Imports the standard library only, so that what prints errors need not wait for TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

FAULTY_RECORD = 'faulty_record'  # a record that no conversion has written
NOT_FINITE = 'not_finite'  # a training whose loss or gradients are not finite


def marked(kind: str, parts: Sequence[Any]) -> list[Any]:
    """Return the parts of a message, strings or string tensors, between the marks of its kind."""
    return [f'<{kind}>', *parts, f'</{kind}>']


def find(kind: str, error: BaseException) -> str | None:
    """Return the marked message in an error of a session or of tf.data; None without one."""
    text = str(getattr(error, 'message', ''))  # of tf.errors.OpError
    found = re.search(f'<{kind}>(.*?)</{kind}>', text, re.DOTALL)
    return re.sub(r'\\([\'"\\])', r'\1', found.group(1)) if found else None  # as Assert escapes
