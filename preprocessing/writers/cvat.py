"""CVAT for images 1.1: one annotations.xml.

px from the outer corner of the picture; nothing is taken off. A garment is a skeleton, with all
points of its category: outside="1" where one is absent, occluded="1" where it is occluded. A box is
written where it is known, with the label and the group_id of the skeleton. Readers that know no
skeletons, as Datumaro's, find the labels in the head of the file and the group_id at each point.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from preprocessing.writers.registry import DECIMALS, WRITERS, by_picture, points_of

ANNOTATIONS_FILE = 'annotations.xml'


@WRITERS.register('cvat')
def _write(garments, schema, options) -> dict[str, str]:
    del options
    root = ET.Element('annotations')
    ET.SubElement(root, 'version').text = '1.1'
    _add_labels(root, schema)
    for number, (name, own) in enumerate(by_picture(garments).items()):
        height, width = own[0].image_size
        size = {'width': str(width), 'height': str(height)}
        image = ET.SubElement(root, 'image', {'id': str(number), 'name': name, **size})
        for group, garment in enumerate(own, 1):
            _add(image, garment, group, schema)
    ET.indent(root)
    text = ET.tostring(root, encoding='unicode')
    return {ANNOTATIONS_FILE: f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n"}


def _add_labels(root: ET.Element, schema) -> None:
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, 'meta'), 'task'), 'labels')
    for category, names in schema.categories.items():
        for name in (category, *names):
            label = ET.SubElement(labels, 'label')
            ET.SubElement(label, 'name').text = name
            ET.SubElement(label, 'type').text = 'skeleton' if name is category else 'points'
            ET.SubElement(label, 'attributes')
            if name is not category:
                ET.SubElement(label, 'parent').text = category


def _add(image: ET.Element, garment, group: int, schema) -> None:
    common = {'label': garment.category, 'source': 'auto', 'occluded': '0'}
    common |= {'group_id': str(group), 'z_order': '0'}
    if garment.box is not None:
        corners = zip(('xtl', 'ytl', 'xbr', 'ybr'), garment.box)
        ET.SubElement(image, 'box', {**common, **{n: f'{x:.{DECIMALS}f}' for n, x in corners}})
    skeleton = ET.SubElement(image, 'skeleton', common)
    for name, (x, y, v) in points_of(garment, schema).items():
        attributes = {**common, 'label': name, 'outside': str(int(v < 0))}
        attributes |= {'occluded': str(int(v == 0)), 'points': f'{x:.{DECIMALS}f},{y:.{DECIMALS}f}'}
        ET.SubElement(skeleton, 'points', attributes)
