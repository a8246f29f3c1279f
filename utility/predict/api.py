"""Points of images in a program: load, Model and Keypoints."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Union

import numpy as np
from absl import flags

from config import EXPERIMENT_FILE, UserError, unknown
from nets.heads.attributes import PRESENCES
from preprocessing import schema_files
from preprocessing.conversion import decoding
from preprocessing.files import exists, read_bytes
from preprocessing.json_input import Node
from preprocessing.schema import KeypointSchema
from preprocessing.tables import category_points
from utility.checkpoints import runs
from utility.predict import flags as prediction_flags
from utility.predict import fusion, uncertainty
from utility.predict.boxes import LEAST_SIDE, check_inside
from utility.predict.exported import RUNNERS, standalone
from utility.predict.predictor import Predictions, confident_box, likely_visibility
from utility.predict.uncertainty import Calibration
from utility.predict.views_to_points import PredictOptions
from utility.predict.warm_network import WarmNetwork
from utility.statistics import conformal

# A path, the content of a file, or pixels: uint8 [H, W, 3] RGB, [H, W] gray or [H, W, 4] RGBA.
Image = Union[str, os.PathLike, bytes, np.ndarray]

_END = object()


@dataclasses.dataclass(frozen=True, eq=False)
class Keypoints:
    """The points of an image.

    Attributes:
        image: As it was given.
        category: What it shows.
        names: Of the K points of the category.
        points: float32 [K, 2], continuous px of the image, (x, y).
        scores: float32 [K], about 1 where the network is sure.
        image_size: (height, width), px.
        schema: Of the category.
        category_probabilities: Category -> probability, if the network tells it; None otherwise.
        presence: float32 [K, 3], probabilities that a point is absent, occluded or visible, if the
            network tells them; None otherwise.
        radii: float32 [K], px, about the points, that hold their true places as often as was asked
            of Model.calibrate; None where the model is not calibrated.
    """

    image: Image = dataclasses.field(repr=False)
    category: str
    names: tuple[str, ...]
    points: np.ndarray
    scores: np.ndarray
    image_size: tuple[int, int]
    schema: KeypointSchema = dataclasses.field(repr=False)
    category_probabilities: Mapping[str, float] | None = None
    presence: np.ndarray | None = None
    radii: np.ndarray | None = None

    @property
    def visibility(self) -> np.ndarray:
        """Of the K points, int32: 1 likely visible, 0 likely occluded, -1 likely absent, as
        predictor.likely_visibility has it; 1 where the network does not tell the presence.
        """
        if self.presence is None:
            return np.ones(len(self.names), np.int32)
        return likely_visibility(self.presence)

    def draw(self, labels: bool = False) -> np.ndarray:
        """Return the image with its points, uint8 [H, W, 3] RGB; `labels` writes their
        names, too. Absent points are not drawn, occluded ones are rings. About them are circles of
        their radii.
        """
        from utility.visualization import draw

        visibility = self.visibility
        style = draw.DrawStyle(labels=labels)
        pixels = _pixels(self.image)
        return draw.draw_keypoints(
            pixels, self.points, visibility, self.schema, style=style, radii=self.radii
        )

    def to_json(self) -> str:
        """Return one line: image (its path, or null), category, image_size and points; of what the
        network tells category_probabilities and presence, of each point the three probabilities.
        """
        is_path = isinstance(self.image, (str, os.PathLike))
        rows = zip(self.names, self.points.tolist(), self.scores.tolist())
        content = {
            'image': os.fspath(self.image) if is_path else None,
            'category': self.category,
            'image_size': list(self.image_size),
            'points': {name: [*point, score] for name, point, score in rows},
        }
        if self.category_probabilities is not None:
            content['category_probabilities'] = dict(self.category_probabilities)
        if self.presence is not None:
            content['presence'] = dict(zip(self.names, self.presence.tolist()))
        if self.radii is not None:
            finite = [radius if math.isfinite(radius) else None for radius in self.radii.tolist()]
            content['radii'] = dict(zip(self.names, finite))
        return json.dumps(content)

    def to_dataframe(self):
        """Return a pandas.DataFrame with a row for each point: name, x, y, score; and, where the
        network tells them, the probabilities absent, occluded and visible.
        """
        import pandas as pd

        x, y = self.points.T
        columns = {'name': self.names, 'x': x, 'y': y, 'score': self.scores}
        if self.presence is not None:
            columns.update(zip(PRESENCES, self.presence.T))
        if self.radii is not None:
            columns['radius'] = self.radii
        return pd.DataFrame(columns)


class Answer(NamedTuple):
    """What a Predictor says of an image.

    Attributes:
        points: float32 [K, 2] px, K of the full schema.
        scores: float32 [K].
        category_probabilities: float32 [C], C of the full schema; None: not told.
        presence: float32 [K, 3]; None: not told.
        map_features: float32 [K, 3], as of map_features.of_maps; None: not told.
    """

    points: np.ndarray
    scores: np.ndarray
    category_probabilities: np.ndarray | None = None
    presence: np.ndarray | None = None
    map_features: np.ndarray | None = None


class Predictor(Protocol):
    """What a Model asks: of a run, of several, or of an exported folder."""

    schema: KeypointSchema
    categories: Sequence[str]
    batch_size: int
    tells_category: bool

    def points(
        self,
        images: Sequence[np.ndarray],
        categories: Sequence[str | None],
        boxes: Sequence[np.ndarray | None],
    ) -> list[Answer]:
        """Return what it says of each of some images; a category may be None if tells_category.

        An image is cropped to its box, float32 [4] px; None: it is looked at as it is.
        """

    def calibrate(self, source: str) -> Calibration:
        """Learn how far off its points are; from now on tell what that asks for."""

    def close(self) -> None:
        """Give back what it holds."""


def load(source: str | os.PathLike | Sequence[str], **options) -> Model:
    """Open trained networks; they are kept ready until the Model is closed.

    Args:
        source: A run, as the train scripts write it; several, which become one predictor; or a
            folder that utility.export wrote.
        options: Any of the flags of prediction, as eval_metrics.py --help lists them: flip_test,
            passes, refine, scales, checkpoint, average_last, batch_size, ... An exported folder has
            them inside, and takes none.

    Raises:
        UserError: There is no network, an option is unknown or has a value that means nothing.
    """
    folders = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    folders = [os.fspath(folder) for folder in folders]
    if not folders:
        raise UserError('no run to load')
    exported = [folder for folder in folders if _is_export(folder)]
    if not exported:
        return of_runs(folders, _options(options))
    if len(folders) > 1:
        raise UserError(f'{exported[0]!r} is an exported network: it is loaded alone')
    if options:
        raise UserError(f'{next(iter(options))}: is inside of {exported[0]!r} already')
    export = _Export(exported[0])
    return Model(export, export.calibration, export.level)


def of_runs(run_dirs: Sequence[str], options: PredictOptions) -> Model:
    """Open trained networks as `load` does, by options that are made already."""
    return Model(_Runs(run_dirs, options))


def _is_export(folder: str) -> bool:
    path = os.path.join(folder, standalone.DESCRIPTION_FILE)
    has_experiment = exists(os.path.join(folder, EXPERIMENT_FILE))
    return exists(path) and not has_experiment


def _options(given: Mapping[str, Any]) -> PredictOptions:
    """Return the options that flags of these names and values stand for."""
    values = flags.FlagValues()
    prediction_flags.define(flag_values=values)
    for name, value in given.items():
        if name not in values:
            raise unknown('option', name, name, list(values))
        if isinstance(value, (list, tuple)):
            value = ','.join(map(str, value))
        try:
            if value is not None:
                values[name].parse(value if isinstance(value, bool) else str(value))
        except flags.Error as error:
            raise UserError(f'{name}={value!r}: {error}') from error
    values.mark_as_parsed()
    return prediction_flags.options(values)


class Model:
    """Networks that are open; threads may share it. Closed like a file, or by `with`."""

    def __init__(
        self,
        predictor: Predictor,
        calibration: Calibration | None = None,
        level: float = uncertainty.LEVEL,
    ):
        self._predictor, self._calibration, self._level = predictor, calibration, level
        self._closed = False

    def calibrate(self, records: str | os.PathLike, level: float = uncertainty.LEVEL) -> None:
        """Learn from pictures with known points how far off points are: results then have radii.
        Not to be called while another thread predicts.

        Args:
            records: A labelled split of the records that the networks were not trained on; or what
                eval_metrics.py --save_uncertainty learned from one: a file, or a folder with an
                uncertainty.json.
            level: Share of the radii that are to hold the true point.

        Raises:
            UserError: It is none of these, is of another predictor, or the level is no share.
        """
        self._check_open()
        conformal.rank(1, level)
        self._calibration = self._predictor.calibrate(os.fspath(records))
        self._level = level

    @property
    def schema(self) -> KeypointSchema:
        """Of the data set."""
        return self._predictor.schema

    @property
    def categories(self) -> tuple[str, ...]:
        """What it knows the points of."""
        return tuple(self._predictor.categories)

    def predict(
        self,
        image: Image | Sequence[Image],
        category: str | Sequence[str] | None = None,
        box: Sequence[float] | Sequence[Sequence[float] | None] | None = None,
    ):
        """Find the points of an image, or of several.

        Args:
            image: A path, the content of a file, a NumPy array, uint8 [H, W, 3] RGB, [H, W] gray or
                [H, W, 4] with alpha; a list of those; or a folder, of which each image is taken.
            category: What the images show, or what each of a list shows. Not needed where the
                network knows one category only, or tells the category: then it is the likeliest.
            box: Of the garment in the image, (x_min, y_min, x_max, y_max) px, to which it is
                cropped; of a list, one for each image, or None. An image with several garments is
                in the list several times.

        Returns:
            Keypoints; of a list or a folder, a list of them.

        Raises:
            UserError: An image cannot be read, the category is not known, or a box is none.
        """
        if isinstance(image, (str, os.PathLike)) and os.path.isdir(image):
            if box is not None:
                raise UserError('box: a folder has none; give a list of its images')
            return list(self.predict_each(_images_in(os.fspath(image)), category))
        if isinstance(image, (list, tuple)):
            return list(self.predict_each(image, category, box))
        (result,) = self.predict_each([image], category, None if box is None else [box])
        return result

    def predict_each(
        self,
        images: Iterable[Image],
        category: str | Sequence[str] | None = None,
        boxes: Iterable[Sequence[float] | None] | None = None,
    ) -> Iterator[Keypoints]:
        """Predict one result after the other; of any number of images it holds a batch."""
        is_one = category is None or isinstance(category, str)
        given = _rows(images, categories=None if is_one else category, boxes=boxes)
        rows = (
            (image, self._known(category if is_one else name), _checked_box(box))
            for image, name, box in given
        )
        while batch := list(itertools.islice(rows, self._predictor.batch_size)):
            yield from self._batch(*zip(*batch))

    def _batch(
        self,
        images: Sequence[Image],
        categories: Sequence[str | None],
        boxes: Sequence[np.ndarray | None],
    ) -> Iterator[Keypoints]:
        self._check_open()
        pixels = [_pixels(image) for image in images]
        for own, box in zip(pixels, boxes):
            if box is not None:
                check_inside(box, own.shape[:2], 'box')
        answers = self._predictor.points(pixels, categories, boxes)
        for image, own, category, answer in zip(images, pixels, categories, answers):
            yield self._keypoints(image, own.shape[:2], category, answer)

    def _check_open(self) -> None:
        if self._closed:
            raise UserError('the model is closed')

    def _keypoints(self, image: Image, size, category: str | None, answer: Answer) -> Keypoints:
        told, presence = answer.category_probabilities, answer.presence
        if told is not None:
            told = dict(zip(self.schema.categories, told.tolist()))
        category = category or likeliest_of(told, self.categories)
        chosen = list(self.schema.indices(category))
        schema = self.schema.subset(category)
        return Keypoints(
            image,
            category,
            schema.keypoints,
            answer.points[chosen],
            answer.scores[chosen],
            size,
            schema,
            told,
            None if presence is None else presence[chosen],
            self._radii(category, answer, chosen),
        )

    def _radii(self, category: str, answer: Answer, chosen: list[int]) -> np.ndarray | None:
        if self._calibration is None:
            return None
        maps = answer.map_features
        alone = Predictions(
            image_ids=np.array(['']),
            categories=np.array([category]),
            image_sizes=np.zeros([1, 2], int),
            keypoints=answer.points[np.newaxis],
            scores=answer.scores[np.newaxis],
            visibility=np.where(category_points([category], self.schema), 1, -1),
            map_features=None if maps is None else maps[np.newaxis],
        )
        return self._calibration.radii(alone, self._level)[0, chosen]

    def _known(self, category: str | None) -> str | None:
        if category is None and len(self.categories) == 1:
            return self.categories[0]
        if category is None and self._predictor.tells_category:
            return None
        if category not in self.categories:
            given = 'category is missing' if category is None else f'unknown category {category!r}'
            raise UserError(f'{given}; there are: {", ".join(self.categories)}')
        return category

    def close(self) -> None:
        """Give back the memory of the networks; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._predictor.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error) -> None:
        self.close()


def _images_in(folder: str) -> list[str]:
    paths = decoding.named_pictures(os.path.join(folder, name) for name in os.listdir(folder))
    if not paths:
        raise UserError(f'{folder!r} holds no images ({", ".join(decoding.SUFFIXES)})')
    return paths


def _rows(images: Iterable[Image], **others: Iterable | None) -> Iterator[tuple]:
    """Yield each image with its own of each of the others; None of those that are None.

    Raises:
        UserError: There are more or fewer of one than images.
    """
    for what, values in others.items():
        sized = hasattr(images, '__len__') and hasattr(values, '__len__')
        if sized and len(values) != len(images):
            raise UserError(f'{len(images)} images, but {len(values)} {what}')
    columns = {what: iter(values) for what, values in others.items() if values is not None}
    for image in images:
        row = {what: next(column, _END) for what, column in columns.items()}
        for what, value in row.items():
            if value is _END:
                raise UserError(f'fewer {what} than images')
        yield image, *(row.get(what) for what in others)
    for what, column in columns.items():
        if next(column, _END) is not _END:
            raise UserError(f'more {what} than images')


def _checked_box(box) -> np.ndarray | None:
    if box is None:
        return None
    try:
        corners = np.asarray(box, np.float32)
    except (TypeError, ValueError):
        corners = np.zeros(0)
    if (
        corners.shape != (4,)
        or not np.isfinite(corners).all()
        or (corners[2:] - corners[:2] < LEAST_SIDE).any()
    ):
        allowed = f'(x_min, y_min, x_max, y_max) px, of sides of at least {LEAST_SIDE} px'
        raise UserError(f'box={box!r:.80}: must be {allowed}')
    return corners


def _pixels(image: Image) -> np.ndarray:
    """Return uint8 [H, W, 3] of an image."""
    if isinstance(image, str) and '://' in image:
        try:
            return decoding.decode(read_bytes(image))
        except decoding.BadImageError as error:
            raise UserError(f'{image}: {error}') from error
    return standalone.pixels_of(image)


class _Runs:
    """Networks of runs, each in a graph of its own that is made once, when it is first needed."""

    def __init__(self, run_dirs: Sequence[str], options: PredictOptions):
        self._options, self.batch_size = options, options.batch_size
        self._run_dirs = run_dirs
        self.schema = runs.schema_of(run_dirs[0])
        self.categories = fusion.common_categories(run_dirs)
        self.tells_category = fusion.tells_category(run_dirs)
        if not self.categories:
            raise UserError(f'{", ".join(run_dirs)}: have no category in common')
        self._scratch = tempfile.TemporaryDirectory()  # of a mean of checkpoints
        try:
            chosen = fusion.trained_networks(run_dirs, self.categories, options, self._scratch.name)
        except Exception:
            self._scratch.cleanup()
            raise
        self._groups = {name: networks for networks, own in chosen for name in own}
        self._warm: dict[tuple, WarmNetwork] = {}
        self._lock = threading.Lock()

    def points(self, images, categories, boxes):
        """Return points and scores of each image; see Predictor."""
        answers: dict[int, Answer] = {}
        groups = [self._groups[name or self.categories[0]] for name in categories]
        for group in {id(group): group for group in groups}.values():
            rows = [row for row, own in enumerate(groups) if own is group]
            own = [images[row] for row in rows]
            given = [boxes[row] for row in rows]
            if all(box is None for box in given):
                given = None
            else:  # one without an area keeps the whole image
                given = [np.zeros(4, np.float32) if box is None else box for box in given]
            shown = [categories[row] for row in rows]
            part = self._pass(group, own, given, shown)
            if self._options.passes == 2:
                around = [self._box(*pair) for pair in zip(part, shown)]
                part = self._pass(group, own, around, shown)
            answers.update(zip(rows, part))
        return [answers[row] for row in range(len(images))]

    def _pass(self, group, images, boxes, categories):
        averages_maps = len(group) > 1 and self._options.fuse == 'heatmaps'
        size = fusion.common_heatmap_size(group) if averages_maps else None
        sources = [
            functools.partial(self._warmed(network, size).rows, images, boxes, categories)
            for network in group
        ]
        rows = fusion.together(sources, group, self._options)
        return [
            Answer(
                row['keypoints'],
                row['scores'],
                *(row.get(name) for name in (*fusion.TOLD, 'map_features')),
            )
            for row in rows
        ]

    def calibrate(self, source):
        """Learn how far off its points are; see Predictor."""
        calibration = uncertainty.load(source, self._run_dirs, self._options)
        with self._lock:
            self._options = dataclasses.replace(self._options, map_features=calibration.needs_maps)
            self._forget()
        return calibration

    def _box(self, answer: Answer, category: str | None):
        if category is None:
            told = dict(zip(self.schema.categories, answer.category_probabilities))
            category = likeliest_of(told, self.categories)
        (visible,) = category_points([category], self.schema)
        return confident_box(answer.points, answer.scores, np.where(visible, 1, -1))

    def _warmed(self, network, heatmap_size) -> WarmNetwork:
        with self._lock:
            key = (network.folder, heatmap_size)
            if key not in self._warm:
                self._warm[key] = WarmNetwork(network, self._options, heatmap_size)
            return self._warm[key]

    def close(self):
        """Close what was opened; see Predictor."""
        with self._lock:
            self._forget()
            self._scratch.cleanup()

    def _forget(self):
        for network in self._warm.values():
            network.close()
        self._warm.clear()


def likeliest_of(probabilities: Mapping[str, float], categories: Iterable[str]) -> str:
    """Return the likeliest of the categories that a predictor knows."""
    return max(categories, key=probabilities.__getitem__)


class _Export:
    """A folder that utility.export wrote, in the runtime of its format."""

    batch_size = 1

    def __init__(self, folder: str):
        description = standalone.read_description(folder)
        name = description['format']
        if name not in RUNNERS:
            raise unknown('format', name, name, RUNNERS)
        self.schema = schema_of_export(description)
        start = importlib.import_module(f'utility.predict.exported.run_{RUNNERS[name]}').start
        self._model = standalone.ExportedModel(folder, start)
        self._folder, self.categories = folder, list(description['categories'])
        self.tells_category = 'category_probabilities' in self._model.tells
        self.calibration = None
        self.level = description.get('radii', {}).get('level', uncertainty.LEVEL)
        if description.get('uncertainty') is not None:
            place = f'{os.path.join(folder, standalone.DESCRIPTION_FILE)}: uncertainty'
            self.calibration = uncertainty.of_node(Node(description['uncertainty'], place))
            self._check_calibration(self.calibration)

    def points(self, images, categories, boxes):
        """Return points and scores of each image; see Predictor."""
        if any(box is not None for box in boxes):
            raise UserError('box: an exported network looks at whole images; give it the crop')
        return [self._checked(*pair) for pair in zip(images, categories)]

    def _checked(self, image, category) -> Answer:
        *found, told = self._model.predict_pixels(image, category)
        keypoints, scores = map(np.asarray, found)
        count = self.schema.num_keypoints
        if keypoints.shape != (count, 2) or scores.shape != (count,):
            raise UserError(
                f'{self._folder!r} is damaged: its file gives points of shape '
                f'{list(keypoints.shape)}, not [{count}, 2] as {standalone.DESCRIPTION_FILE} tells'
            )
        return Answer(keypoints, scores, **told)

    def calibrate(self, source):
        """Learn how far off its points are; see Predictor."""
        path = uncertainty.file_of(source)
        if path:
            calibration = uncertainty.read(path)
            self._check_calibration(calibration)
            return calibration
        predictions, annotations = uncertainty.predicted_one_by_one(
            source, self.schema, lambda pixels, category: self._checked(pixels, category)[:2]
        )
        features = uncertainty.POINT_FEATURES
        return uncertainty.calibrate(predictions, annotations, self.schema, None, features)

    def _check_calibration(self, calibration: Calibration) -> None:
        if calibration.needs_maps or calibration.keypoints != self.schema.keypoints:
            raise UserError(
                f'{self._folder!r}: how far off points are was learned for other keypoints, or '
                'with features of heat maps, which an exported network does not tell; calibrate on '
                'a labelled split'
            )

    def close(self):
        """Close what was opened; see Predictor."""
        self._model = None


def schema_of_export(description: Mapping[str, Any]) -> KeypointSchema:
    """Return the schema of an exported folder, by its description.

    Raises:
        UserError: It has none.
    """
    fields = {name: description.get(name) for name in ('keypoints', 'categories', 'normalizers')}
    fields['name'] = description.get('dataset')
    if description.get('swaps') is not None:
        fields['swaps'] = description['swaps']
    return schema_files.parse(fields, standalone.DESCRIPTION_FILE)
