"""Writers of garments with keypoints, by the name of the format; each has its reader in
preprocessing.datasets.

`WRITERS.get(name)(garments, schema, options)` returns the files, as name below the output -> text;
`write` writes them. To add a format: a file in this folder that registers its function, and its
import here.
"""

from preprocessing.writers import (  # noqa: F401  they register themselves
    coco,
    cvat,
    label_studio,
    labelme,
    yolo,
)
from preprocessing.writers.registry import (
    FOLDER_FORMATS,
    WRITERS,
    Garment,
    WriteOptions,
    garments_of,
    write,
)

# Those of which annotation tools make annotations again.
ANNOTATION_FORMATS = [name for name in WRITERS.names() if name != 'coco_results']

__all__ = [
    'ANNOTATION_FORMATS',
    'FOLDER_FORMATS',
    'WRITERS',
    'Garment',
    'WriteOptions',
    'garments_of',
    'write',
]
