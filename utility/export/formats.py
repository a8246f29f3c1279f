"""The formats that a network can be exported to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from config import Registry, UserError
from utility.export.graph import ExportGraph

FORMATS = Registry(
    'export format',
    """Name -> Format. `write` gets the graph and the Settings of an export, and an existing empty
    folder; it gives the names of the files, or folders, that it wrote there, the first of them the
    one that is opened. `start` is what opens and runs them, see utility.predict.exported; a copy of
    it goes into the folder.""",
)


class Settings(NamedTuple):
    """How a network is written.

    Attributes:
        precision: Of PRECISIONS: of the numbers that are stored, and of int8 of what is computed.
        calibration: Crops, float32 [h, w, 3] in 0..255, that tell the ranges of int8.
    """

    precision: str = 'float32'
    calibration: Sequence[np.ndarray] = ()


class Format(NamedTuple):
    """An entry of FORMATS.

    Attributes:
        write: f(graph, settings, folder) -> names of files.
        start: Of utility.predict.exported.
        precisions: That it has.
        install: What pip needs to run it.
    """

    write: Callable[[ExportGraph, Settings, str], Sequence[str]]
    start: Callable
    precisions: Sequence[str]
    install: str


def require_package(name: str) -> None:
    """Refuse to go on without a package of requirements-export.txt.

    Raises:
        UserError: It is not installed; tells how to install it.
    """
    import importlib.util

    if importlib.util.find_spec(name) is None:
        raise UserError(
            f'{name} is not installed: pip install -r requirements-export.txt (Python 3.10 or '
            '3.11; ONNX needs packages that the rest of the project does not)'
        )
