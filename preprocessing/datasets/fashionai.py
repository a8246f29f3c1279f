"""The FashionAI keypoint challenge of 2018 (Tianchi 231648; re-released as data set 136923)."""

from __future__ import annotations

from preprocessing.datasets.registry import DATASETS, DatasetSpec, Split
from preprocessing.schema import KeypointSchema

_UPPER = ('armpit_left', 'armpit_right')
_LOWER = ('waistband_left', 'waistband_right')
_CUFFS = ('cuff_left_in', 'cuff_left_out', 'cuff_right_in', 'cuff_right_out')
_NECK = ('neckline_left', 'neckline_right')
_SHOULDERS = ('shoulder_left', 'shoulder_right')
_WAIST = ('waistline_left', 'waistline_right')
_TOP_HEM = ('top_hem_left', 'top_hem_right')
_HEM = ('hemline_left', 'hemline_right')
_BOTTOMS = ('bottom_left_in', 'bottom_left_out', 'bottom_right_in', 'bottom_right_out')

SCHEMA = KeypointSchema(
    name='fashionai',
    keypoints=(
        *_NECK,
        'center_front',
        *_SHOULDERS,
        *_UPPER,
        *_WAIST,
        *_CUFFS,
        *_TOP_HEM,
        *_LOWER,
        *_HEM,
        'crotch',
        *_BOTTOMS,
    ),
    categories={
        'blouse': (*_NECK, 'center_front', *_SHOULDERS, *_UPPER, *_CUFFS, *_TOP_HEM),
        'dress': (*_NECK, 'center_front', *_SHOULDERS, *_UPPER, *_WAIST, *_CUFFS, *_HEM),
        'outwear': (*_NECK, *_SHOULDERS, *_UPPER, *_WAIST, *_CUFFS, *_TOP_HEM),
        'skirt': (*_LOWER, *_HEM),
        'trousers': (*_LOWER, 'crotch', *_BOTTOMS),
    },
    normalizers={
        'blouse': _UPPER,
        'dress': _UPPER,
        'outwear': _UPPER,
        'skirt': _LOWER,
        'trousers': _LOWER,
    },
)


def find_splits(data_dir: str) -> list[Split]:
    """The splits below `data_dir`, in either layout; see fashionai_layouts.find_splits."""
    # Looking at files needs TensorFlow, the schema does not.
    from preprocessing.datasets import fashionai_layouts

    return fashionai_layouts.find_splits(data_dir, SCHEMA)


DATASETS.register('fashionai')(DatasetSpec(schema=SCHEMA, find_splits=find_splits))
