"""Pictures of keypoints for people to look at. NumPy and OpenCV only."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from config import UserError
from preprocessing.files import write_bytes
from preprocessing.schema import KeypointSchema, named_pairs

LEFT_COLOR = (255, 84, 66)  # RGB
RIGHT_COLOR = (52, 118, 255)
CENTER_COLOR = (52, 190, 92)
ERROR_COLOR = (255, 214, 40)  # Of the line from a prediction to its answer.
SHEET_COLOR = (255, 255, 255)
SHEET_GAP = 4  # px around every cell
JPEG_QUALITY = 92

# Of draw_error, which shows a part of a picture.
SIDE = 480  # px, the longest of a picture on the page
_ROOM = 0.15  # around the points, as a share of their box
_LEAST_ROOM = 12.0  # px
_PAPER = 235  # gray, where there is no picture
_RADIUS = 4  # px, of points
_LINE = 3  # of the outline on gray: three times the width of its lines, px
_LABEL_SCALE = 0.7  # so that names can be read where a page shows the picture at half its size
_MOST_LABELS = 6  # more would cover each other

_SHIFT = 6  # Fractional bits of OpenCV's coordinates: 1/64 px.
_FAR = 20000.0  # px; OpenCV draws with integers that overflow beyond.


@dataclasses.dataclass(frozen=True)
class DrawStyle:
    """How keypoints are drawn.

    Attributes:
        radius: Of a point, px; None goes by the size of the picture.
        limbs: Whether neighboring points are joined by thin lines.
        labels: Whether points bear their names.
        label_scale: Size of the names, 1 being letters of some 20 px; None goes by the radius.
    """

    radius: float | None = None
    limbs: bool = False
    labels: bool = False
    label_scale: float | None = None


def draw_keypoints(
    image: np.ndarray,
    keypoints: np.ndarray,
    visibility: np.ndarray,
    schema: KeypointSchema,
    annotated: tuple[np.ndarray, np.ndarray] | None = None,
    style: DrawStyle = DrawStyle(),  # noqa: B008  frozen
    radii: np.ndarray | None = None,
) -> np.ndarray:
    """Return a copy of the picture with its points: discs, or rings where a point is occluded.

    Args:
        image: uint8 [H, W, 3] RGB.
        keypoints: [K, 2] continuous (x, y) px; they may lie outside.
        visibility: [K]; points below 0 are not drawn, those of 0 are rings.
        schema: Names the K points, and tells their sides and how they are joined.
        annotated: Annotations, (keypoints [K, 2], visibility [K]): crosses, joined to the points.
        style: Sizes and extras.
        radii: [K] px, of circles about the points that may be off so far; None: no circles.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        UserError: A shape or type does not fit.
    """
    _check_image(image, 'image')
    keypoints = _checked(keypoints, (schema.num_keypoints, 2), 'keypoints')
    visibility = _checked(visibility, (schema.num_keypoints,), 'visibility')
    canvas = np.ascontiguousarray(image).copy()
    radius = style.radius or max(2.0, 0.011 * max(image.shape[:2]))
    colors = keypoint_colors(schema)
    drawn = (visibility >= 0) & np.isfinite(keypoints).all(axis=1)
    if style.limbs:
        _draw_limbs(canvas, keypoints, drawn, schema, radius)
    if annotated is not None:
        annotations = _checked(annotated[0], (schema.num_keypoints, 2), 'annotated[0]')
        is_annotated = _checked(annotated[1], (schema.num_keypoints,), 'annotated[1]') >= 0
        for k in np.flatnonzero(is_annotated & drawn):
            _draw_line(canvas, keypoints[k], annotations[k], ERROR_COLOR, radius * 0.5)
        for k in np.flatnonzero(is_annotated):
            _draw_cross(canvas, annotations[k], colors[k], radius)
    if radii is not None:
        radii = _checked(radii, (schema.num_keypoints,), 'radii')
        for k in np.flatnonzero(drawn & np.isfinite(radii)):
            _draw_circle(canvas, keypoints[k], colors[k], radii[k], radius * 0.4)
    for k in np.flatnonzero(drawn):
        _draw_point(canvas, keypoints[k], colors[k], radius, hollow=visibility[k] == 0)
    if style.labels:
        for k in np.flatnonzero(drawn):
            name = schema.keypoints[k]
            _draw_label(canvas, keypoints[k], name, colors[k], radius, style.label_scale)
    return canvas


def contact_sheet(images: Iterable[np.ndarray], columns: int, cell_size: int) -> np.ndarray:
    """Return many pictures on one sheet, row by row, each fitted into a square cell.

    Args:
        images: uint8 [H, W, 3] RGB each, of any size.
        columns: Cells in a row.
        cell_size: Side of a cell, px.

    Returns:
        uint8 [height, width, 3] RGB.

    Raises:
        UserError: There is no picture, or an argument is out of range.
    """
    images = list(images)
    if not images:
        raise UserError('images: there is none to put on a sheet')
    if columns < 1 or cell_size < 1:
        raise UserError(f'columns={columns}, cell_size={cell_size}: must be positive')
    columns = min(columns, len(images))
    pitch = cell_size + SHEET_GAP
    rows = -(-len(images) // columns)
    sheet = np.empty((rows * pitch + SHEET_GAP, columns * pitch + SHEET_GAP, 3), np.uint8)
    sheet[:] = SHEET_COLOR
    for k, image in enumerate(images):
        _check_image(image, f'images[{k}]')
        fitted = _fitted(image, cell_size)
        top = SHEET_GAP + k // columns * pitch + (cell_size - fitted.shape[0]) // 2
        left = SHEET_GAP + k % columns * pitch + (cell_size - fitted.shape[1]) // 2
        sheet[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def encode_image(image: np.ndarray, suffix: str, quality: int = JPEG_QUALITY) -> bytes:
    """Return an RGB picture as a file's content.

    Args:
        image: uint8 [H, W, 3] RGB.
        suffix: '.jpg', '.jpeg' or '.png', in any case.
        quality: Of a JPEG, 0 to 100.

    Raises:
        UserError: Another suffix, or not a picture.
    """
    _check_image(image, 'image')
    kind = suffix.lower()
    if kind not in ('.jpg', '.jpeg', '.png'):
        raise UserError(f'suffix={suffix!r}: must be .jpg, .jpeg or .png')
    options = [] if kind == '.png' else [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write a picture as JPEG or PNG by its suffix: it is complete or not there.

    Args:
        path: Local, or anything tf.io.gfile opens; its directory is made.
        image: uint8 [H, W, 3] RGB.

    Raises:
        UserError: The path has another suffix, or image is not a picture.
        OSError: The file cannot be written.
    """
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix.lower() not in ('.jpg', '.jpeg', '.png'):
        raise UserError(f'{path}: the name of a picture must end in .jpg, .jpeg or .png')
    write_bytes(path, encode_image(image, suffix))


def keypoint_colors(schema: KeypointSchema) -> list[tuple[int, int, int]]:
    """Return RGB of each keypoint by its side: the word 'left' or 'right' in its name.

    Of a pair that changes places in a mirror and has no such word the first is left.
    """
    colors = [CENTER_COLOR] * schema.num_keypoints
    named = named_pairs(schema.keypoints)
    sides = [tuple(map(schema.keypoints.index, pair)) for pair in named]
    for left, right in (*schema.side_pairs, *sides):
        colors[left], colors[right] = LEFT_COLOR, RIGHT_COLOR
    return colors


def _check_image(image: np.ndarray, name: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f'{name}: {image.dtype} {list(image.shape)} must be uint8 [height, width, 3]'
        )


def _checked(values: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != shape:
        raise UserError(f'{name}: shape {list(values.shape)} must be {list(shape)}')
    return values


def _fixed(point: Sequence[float]) -> tuple[int, int]:
    """Return continuous px -> OpenCV's fixed-point index, whose whole numbers are pixel centers."""
    x, y = np.clip(np.asarray(point, np.float64), -_FAR, _FAR)
    return round((x - 0.5) * (1 << _SHIFT)), round((y - 0.5) * (1 << _SHIFT))


def _draw_disc(canvas: np.ndarray, point, radius: float, color, thickness: int = -1) -> None:
    fixed_radius = round(radius * (1 << _SHIFT))
    cv2.circle(canvas, _fixed(point), fixed_radius, color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_point(canvas: np.ndarray, point, color, radius: float, hollow: bool) -> None:
    """Draw a disc or a ring between a dark and a light rim, so that it shows on any ground."""
    if not hollow:
        _draw_disc(canvas, point, radius * 1.55, (30, 30, 30))
        _draw_disc(canvas, point, radius * 1.32, (255, 255, 255))
        _draw_disc(canvas, point, radius, color)
        return
    width = max(1, round(radius * 0.5))
    _draw_disc(canvas, point, radius * 1.5, (255, 255, 255), width + 1)
    _draw_disc(canvas, point, radius * 1.3, color, width)


def _draw_circle(canvas: np.ndarray, point, color, radius: float, width: float) -> None:
    """Draw a thin circle on a white one, so that it shows on any ground."""
    thickness, radius = max(1, round(width)), min(float(radius), _FAR)
    _draw_disc(canvas, point, radius, (255, 255, 255), thickness + 2)
    _draw_disc(canvas, point, radius, color, thickness)


def _draw_line(canvas: np.ndarray, start, end, color, width: float) -> None:
    thickness = max(1, round(width))
    a, b = _fixed(start), _fixed(end)
    cv2.line(canvas, a, b, (30, 30, 30), thickness + 1, cv2.LINE_AA, _SHIFT)
    cv2.line(canvas, a, b, color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_cross(canvas: np.ndarray, point, color, radius: float) -> None:
    for rim, tone in ((2, (255, 255, 255)), (0, color)):
        thickness = max(1, round(radius * 0.4)) + rim
        for step in ((radius, radius), (radius, -radius)):
            ends = _fixed(np.subtract(point, step)), _fixed(np.add(point, step))
            cv2.line(canvas, *ends, tone, thickness, cv2.LINE_AA, _SHIFT)


def _draw_limbs(canvas, keypoints, drawn, schema: KeypointSchema, radius: float) -> None:
    index = {name: k for k, name in enumerate(schema.keypoints)}
    category_names = _category_of(drawn, schema)
    for chain in schema.skeleton:
        neighbors = [index[name] for name in chain if name in category_names]
        for a, b in zip(neighbors, neighbors[1:]):
            # Not over one that the category has and the picture has not: there is no such edge.
            if drawn[a] and drawn[b]:
                _draw_line(canvas, keypoints[a], keypoints[b], (255, 255, 255), radius * 0.35)


def _category_of(drawn: np.ndarray, schema: KeypointSchema) -> Sequence[str]:
    """Return the keypoints of the smallest category that has all that are drawn."""
    names = {name for name, is_drawn in zip(schema.keypoints, drawn) if is_drawn}
    fitting = [points for points in schema.categories.values() if names <= set(points)]
    return min(fitting, key=len, default=schema.keypoints)


def _draw_label(canvas: np.ndarray, point, name: str, color, radius: float, scale=None) -> None:
    scale = scale or max(0.3, radius / 10)
    (width, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x, y = np.clip(np.asarray(point, np.float64), -_FAR, _FAR)
    beside = 1.8 * radius
    if x + beside + width > canvas.shape[1]:  # It would be cut off.
        beside = -beside - width
    for thickness, tone in ((3, (255, 255, 255)), (1, tuple(c // 2 for c in color))):
        cv2.putText(
            canvas,
            name,
            (round(x + beside), round(y + 0.8 * radius)),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            tone,
            thickness,
            cv2.LINE_AA,
        )


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """Return the picture scaled so that its longest side is `side` px."""
    scale = side / max(image.shape[:2])
    size = tuple(max(1, round(length * scale)) for length in image.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=method)


def draw_error(
    image: np.ndarray | None,
    predicted: np.ndarray,
    annotations: tuple[np.ndarray, np.ndarray],
    chosen: np.ndarray,
    schema: KeypointSchema,
) -> np.ndarray:
    """Return the part of a picture around its points, with all annotations and some predictions.

    Args:
        image: uint8 [H, W, 3] RGB; None draws on gray.
        predicted: [K, 2], px; NaN where nothing is predicted.
        annotations: Keypoints [K, 2], px, and visibility [K], of which one is 0 or 1.
        chosen: bool [K], the predictions to draw.

    Returns:
        uint8 [h, w, 3] RGB, of at most SIDE px, and at least a hundredth of that.
    """
    chosen = chosen & np.isfinite(predicted).all(1)
    is_annotated = annotations[1] >= 0
    low, high = _view(predicted[chosen], annotations[0][is_annotated], image)
    scale = SIDE / (high - low).max()
    size = np.maximum(np.round((high - low) * scale), SIDE // 100).astype(int)
    if image is None:
        paper = np.full([size[1], size[0], 3], _PAPER, np.uint8)
        outline = DrawStyle(radius=_LINE, limbs=True)
        view = draw_keypoints(
            paper, (annotations[0] - low) * scale, annotations[1], schema, style=outline
        )
    else:
        part = image[low[1] : high[1], low[0] : high[0]]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        view = cv2.resize(part, tuple(map(int, size)), interpolation=method)
    return draw_keypoints(
        view,
        (predicted - low) * scale,
        np.where(chosen, 1, -1),
        schema,
        annotated=((annotations[0] - low) * scale, annotations[1]),
        style=DrawStyle(
            radius=_RADIUS,
            labels=np.count_nonzero(chosen) <= _MOST_LABELS,
            label_scale=_LABEL_SCALE,
        ),
    )


def _view(
    predicted: np.ndarray, annotations: np.ndarray, image: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners, whole px (x, y), of what to show: points with room around them.

    It ends with the picture or, without one, so far from the annotations as they extend.
    """
    low, high = annotations.min(0), annotations.max(0)
    extent = max((high - low).max(), _LEAST_ROOM)
    limits = (low - extent, high + extent) if image is None else ((0, 0), image.shape[1::-1])
    points = np.concatenate([predicted, annotations])
    room = max(_ROOM * extent, _LEAST_ROOM)
    low = np.clip(points.min(0) - room, limits[0], np.subtract(limits[1], 1))
    high = np.clip(points.max(0) + room, low + 1, limits[1])
    return np.floor(low).astype(int), np.ceil(high).astype(int)
