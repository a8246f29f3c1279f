"""The folder that an export writes: the network, what it is, and a script that runs it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from config import UserError
from preprocessing import files, schema_files
from preprocessing.conversion import decoding
from utility.checkpoints import evaluations, runs, snapshots
from utility.command_line.scripts import RunError
from utility.export import onnx, saved_model, tflite, web  # noqa: F401  they register themselves
from utility.export.formats import FORMATS, Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion
from utility.predict.exported import radii, standalone

_OURS = ('config', 'preprocessing', 'utility')  # what predict.py does without
SCRIPT, LICENSE = 'predict.py', 'LICENSE.txt'
_LICENSE_NOTE = """The script predict.py is part of the project that wrote this folder, under the
Apache License, version 2.0: http://www.apache.org/licenses/LICENSE-2.0

The weights in {files} were trained on the data set {dataset}, {start}.
Whether you may pass them on, or use them commercially, depends on the terms of that data set and of
those weights, which this note does not know.
"""
# Of the points of a file, against those of TensorFlow, px of the image. What int8 costs is told and
# not judged: maps of a network that is hardly trained are almost flat, and its points move far.
_LARGEST_MEDIAN = {'float32': 1e-2, 'float16': 0.25, 'int8': 32.0}
_SIZES = ((256, 256), (97, 255), (600, 512), (64, 48))  # of images of noise, px


class Comparison(NamedTuple):
    """How far the points of a file are from those of the same network in TensorFlow, px.

    Attributes:
        images: How many were compared.
        points: Of them, those of the images' categories.
        median, p90, largest: Of the distances.
    """

    images: int
    points: int
    median: float
    p90: float
    largest: float

    @classmethod
    def of(cls, num_images: int, distances: np.ndarray) -> Comparison:
        """Summarize distances, float [N] px."""
        median, p90, largest = np.percentile(distances, [50, 90, 100])
        return cls(num_images, len(distances), float(median), float(p90), float(largest))

    def __str__(self) -> str:
        return (
            f'{self.points} points of {self.images} images: median {self.median:.4f} px, '
            f'p90 {self.p90:.4f} px, largest {self.largest:.4f} px'
        )


def export(
    graph: ExportGraph,
    name: str,
    output: str,
    settings: Settings,
    images: Sequence[np.ndarray] = (),
    more: Mapping[str, Any] = types.MappingProxyType({}),
) -> Comparison:
    """Write a network as a folder, complete and compared with TensorFlow, or not at all.

    Args:
        name: Of FORMATS.
        output: The folder; an earlier export there is replaced.
        images: To compare on, uint8 [H, W, 3] each; without any, images of noise.
        more: What else model.json tells.

    Raises:
        UserError: The format has no such precision, the folder holds something else, or the network
            cannot be exported.
        RunError: The file gives other points than the network.
    """
    chosen = FORMATS.get(name)
    if settings.precision not in chosen.precisions:
        allowed = ' or '.join(chosen.precisions)
        raise UserError(f'--precision={settings.precision}: must be {allowed} of {name}')
    output = output.rstrip('/')
    if os.path.lexists(output):
        _check_replaceable(output)
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    parent, base = os.path.split(output)
    partial = tempfile.mkdtemp(prefix=f'{base}.', dir=parent or '.')
    try:
        names = list(chosen.write(graph, settings, partial))
        description = {**_description(graph, name, names, settings), **more}
        comparison = _compared(graph, chosen.start, partial, description, images)
        _require_likeness(comparison, settings.precision)
        description['compared'] = comparison._asdict()
        for file, content in (
            (standalone.DESCRIPTION_FILE, files.json_bytes(description)),
            (SCRIPT, script(chosen.start).encode()),
            (LICENSE, _license(graph, names).encode()),
        ):
            files.write_bytes(os.path.join(partial, file), content)
        os.chmod(partial, 0o755)
        shutil.rmtree(output, ignore_errors=True)
        files.check_new_folder(output)  # another process may have written one
        os.rename(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return comparison


def _check_replaceable(output: str) -> None:
    """Refuse to write over what is not an export alone.

    Raises:
        UserError: It is a link, no export, or has other files in it.
    """
    try:
        description = standalone.read_description(output)
    except UserError as error:
        raise UserError(f'{output!r} is there and no earlier export; give another --output'
        ) from error  # fmt: skip
    written = {name.split('/')[0] for name in description['files']}
    written |= {standalone.DESCRIPTION_FILE, SCRIPT, LICENSE, '__pycache__'}
    others = sorted(set(os.listdir(output)) - written)
    if os.path.islink(output) or others:
        what = f'has {others[0]!r} beside an export' if others else 'is a symbolic link'
        raise UserError(f'{output!r} {what}, which would be removed; give another --output')


def _description(
    graph: ExportGraph, name: str, names: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """Return what model.json says."""
    trained, schema = graph.trained, graph.schema
    described = schema_files.describe(schema)
    return {
        'version': standalone.FORMAT_VERSION,
        'format': name,
        'precision': settings.precision,
        'files': list(names),
        'install': FORMATS.get(name).install,
        'dataset': schema.name,
        'keypoints': list(schema.keypoints),
        'categories': {category: list(names) for category, names in schema.categories.items()},
        'normalizers': described['normalizers'],
        'swaps': described.get('swaps'),
        'record_positions': list(schema.record_positions),
        'image_size': list(graph.size),
        # In integers the network alone is a file, which gives heat maps and nothing else.
        'tells': [] if (name, settings.precision) == ('tflite', 'int8') else list(graph.tells),
        'flip_test': graph.options.flip_test,
        'refine': trained.experiment.refine,
        # Names alone: a folder that is passed on tells nothing of the computer it was made on.
        'run': _run_name(trained.folder, trained.full_schema.categories),
        'checkpoint': _checkpoint_name(trained),
        'weights': weights_digest(trained.checkpoint),
        'validation': _validation(trained),
        'init_checkpoint': _init_name(trained.folder),
        'experiment': json.loads(trained.experiment.to_json()),
    }


def _run_name(folder: str, categories: Collection[str]) -> str:
    """Return the name of a network's folder, after that of its run where it is one of a run's."""
    parts = os.path.abspath(folder).split(os.sep)
    return '/'.join(parts[-2:] if parts[-1] in {'all', *categories} else parts[-1:])


def _checkpoint_name(trained: fusion.TrainedNetwork) -> str:
    """Return the checkpoint's path in the folder of its network; of one elsewhere, its name."""
    folder, prefix = map(os.path.abspath, (trained.folder, trained.checkpoint))
    inside = prefix.startswith(folder + os.sep)
    return os.path.relpath(prefix, folder) if inside else os.path.basename(prefix)


def weights_digest(prefix: str) -> str:
    """Return what tells a checkpoint from others: SHA-256 of its index, which has sums of all."""
    return hashlib.sha256(files.read_bytes(f'{prefix}.index')).hexdigest()


def _init_name(folder: str) -> str | None:
    start = runs.init_checkpoint(folder)
    return os.path.basename(start.rstrip('/')) if start else None


def _validation(trained) -> dict[str, float] | None:
    """Return what the training's evaluation of just these weights found; None if there was none."""
    try:
        step = snapshots.step_of(trained.checkpoint)
    except UserError:
        return None
    results = evaluations.read(trained.folder)
    return {'step': step, **results[step]} if step in results else None


def _license(graph: ExportGraph, names: Sequence[str]) -> str:
    start = _init_name(graph.trained.folder)
    return _LICENSE_NOTE.format(
        files=', '.join(names),
        dataset=graph.schema.name,
        start=f'from weights of {start}' if start else 'from nothing',
    )


def images_of_noise(seed: int = 0) -> list[np.ndarray]:
    """Return smooth noise of several sizes, uint8 [H, W, 3] each."""
    rng = np.random.default_rng(seed)
    coarse = [rng.integers(0, 256, (height // 8, width // 8, 3)) for height, width in _SIZES]
    enlarged = [tf.image.resize(image, size).numpy() for image, size in zip(coarse, _SIZES)]
    return [image.astype(np.uint8) for image in enlarged]


def _compared(
    graph: ExportGraph, start: Callable, folder: str, description: Mapping[str, Any], images
) -> Comparison:
    """Return the points of a file, in its own runtime, against those of TensorFlow."""
    answer = start(folder, description)
    ours = tf.function(graph.of_image, autograph=False, reduce_retracing=True)
    images = list(images) or images_of_noise()
    distances = []
    for number, image in enumerate(images):
        category = number % len(graph.categories)
        expected = ours(tf.constant(image), tf.constant(category))
        keypoints, scores, *told = answer(image, category)
        if not all(np.isfinite(values).all() for values in (keypoints, scores, *told)):
            raise RunError('the exported file gives numbers that are not finite')
        own = graph.visibility[category] > 0
        distances.append(np.linalg.norm((keypoints - expected['keypoints'])[own], axis=-1))
    return Comparison.of(len(images), np.concatenate(distances))


def _require_likeness(comparison: Comparison, precision: str) -> None:
    logging.info('the file against TensorFlow: %s', comparison)
    if comparison.median > _LARGEST_MEDIAN[precision]:
        raise RunError(
            f'the exported file gives other points than the network ({comparison}); nothing was '
            'written'
        )


def script(start: Callable) -> str:
    """Return the text of predict.py: its modules, with a format's `start`, as one."""
    imports: set[str] = set()
    modules = (decoding, radii, standalone, sys.modules[start.__module__])
    bodies = [_without_imports(inspect.getsource(module), imports) for module in modules]
    future = 'from __future__ import annotations'
    parts = [
        f'"""{inspect.getdoc(standalone)}\n"""\n\n{future}\n\n'
        + '\n'.join(sorted(imports - {future})),
        inspect.getsource(UserError),
        *bodies,
        'if __name__ == "__main__":\n    main()',
    ]
    return '\n\n\n'.join(part.strip() for part in parts) + '\n'


def _without_imports(text: str, imports: set[str]) -> str:
    """Return a module without docstring and imports; foreign ones are added to `imports`."""
    lines = text.splitlines()
    docstring, *rest = ast.parse(text).body
    nodes = [node for node in rest if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in nodes:
        module = getattr(node, 'module', None) or node.names[0].name
        if module.split('.')[0] not in _OURS:
            imports.add(ast.unparse(node))
    for node in (docstring, *nodes):
        lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    return '\n'.join(line for line in lines if line is not None)
