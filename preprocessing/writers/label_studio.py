"""Label Studio: tasks with pre-annotations, and the labeling configuration that they are for.

Percent of the picture's width and height, from its outer corner; nothing is taken off. A garment is
a rectangle with its category, which is the parent of its points. Absent points are not there, an
occluded one has the choice `occluded`. A task's score, by which Label Studio can sort, is the mean
of its points' scores.
"""

from __future__ import annotations

import json
import urllib.parse
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.writers.registry import WRITERS, Garment, box_of, by_picture, points_of

TASKS_FILE, CONFIG_FILE = 'tasks.json', 'labeling_config.xml'
OCCLUDED = 'occluded'
# Pictures of a local folder, which LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names.
_LOCAL_FILES = '/data/local-files/?d='
_POINT_WIDTH = 0.5  # percent: how large the tool draws a point
_DECIMALS = 8  # of a percent
_IMAGE, _BOXES, _POINTS, _VISIBILITY = 'image', 'garments', 'keypoints', 'visibility'


@WRITERS.register('label_studio')
def _write(garments, schema, options) -> dict[str, str]:
    del options
    tasks = [
        _task(number, name, own, schema)
        for number, (name, own) in enumerate(by_picture(garments).items(), 1)
    ]
    return {TASKS_FILE: json.dumps(tasks, indent=1) + '\n', CONFIG_FILE: labeling_config(schema)}


def labeling_config(schema: KeypointSchema) -> str:
    """Return the XML that a project needs, into which the pre-annotations are imported."""
    view = ET.Element('View')
    ET.SubElement(view, 'Image', name='image', value='$image')
    for tag, name, labels in (
        ('RectangleLabels', _BOXES, schema.categories),
        ('KeyPointLabels', _POINTS, schema.keypoints),
    ):
        element = ET.SubElement(view, tag, name=name, toName=_IMAGE)
        for index, label in enumerate(labels):
            # Its exports to COCO and YOLO put points in this order, and none without it.
            ET.SubElement(element, 'Label', value=label, model_index=str(index))
    how = {'perRegion': 'true', 'whenTagName': _POINTS}
    choices = ET.SubElement(view, 'Choices', name=_VISIBILITY, toName=_IMAGE, **how)
    ET.SubElement(choices, 'Choice', value=OCCLUDED)
    ET.indent(view)
    return ET.tostring(view, encoding='unicode') + '\n'


def _task(number: int, name: str, garments: list[Garment], schema) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for place, garment in enumerate(garments, 1):
        results += _results(f'g{place}', garment, schema)
    prediction: dict[str, Any] = {'model_version': schema.name, 'result': results}
    if garments[0].scores is not None:
        prediction['score'] = round(float(np.mean([garment.score for garment in garments])), 6)
    url = _LOCAL_FILES + urllib.parse.quote(name)
    return {'id': number, 'data': {'image': url}, 'predictions': [prediction]}


def _results(key: str, garment: Garment, schema: KeypointSchema) -> list[dict[str, Any]]:
    height, width = garment.image_size
    x_min, y_min, x_max, y_max = box_of(garment)
    size = {'original_width': width, 'original_height': height, 'image_rotation': 0}

    def percent(x: float, y: float) -> tuple[float, float]:
        return round(100 * x / width, _DECIMALS), round(100 * y / height, _DECIMALS)

    def result(own_key: str, kind: str, source: str, value: dict[str, Any]) -> dict[str, Any]:
        names = {'id': own_key, 'type': kind, 'from_name': source, 'to_name': _IMAGE}
        return {**names, **size, 'value': value}

    x, y = percent(x_min, y_min)
    sides = dict(zip(('width', 'height'), percent(x_max - x_min, y_max - y_min)))
    box = {'x': x, 'y': y, **sides, 'rotation': 0, 'rectanglelabels': [garment.category]}
    results = [result(key, 'rectanglelabels', _BOXES, box)]
    points = points_of(garment, schema)
    for k in schema.indices(garment.category):
        name = schema.keypoints[k]
        x, y, v = points[name]
        if v < 0:
            continue
        own_key, place = f'{key}p{k}', dict(zip('xy', percent(x, y)), width=_POINT_WIDTH)
        point = result(own_key, 'keypointlabels', _POINTS, {**place, 'keypointlabels': [name]})
        point['parentID'] = key
        if garment.scores is not None:
            point['score'] = round(float(garment.scores[k]), 6)
        results.append(point)
        if v == 0:
            choice = {**place, 'choices': [OCCLUDED]}
            results.append(result(own_key, 'choices', _VISIBILITY, choice))
    return results
