"""The FashionAI keypoint challenge of 2018 (Tianchi 231648; re-released as data set 136923)."""

from __future__ import annotations

from collections.abc import Sequence

from preprocessing.datasets import fashionai_layouts
from preprocessing.datasets.registry import DATASETS, DatasetSpec, Split
from preprocessing.schema import KeypointSchema, named_pairs

_UPPER = ('armpit_left', 'armpit_right')
_LOWER = ('waistband_left', 'waistband_right')
_CUFFS = ('cuff_left_in', 'cuff_left_out', 'cuff_right_in', 'cuff_right_out')
_NECK = ('neckline_left', 'neckline_right')
_SHOULDERS = ('shoulder_left', 'shoulder_right')
_WAIST = ('waistline_left', 'waistline_right')
_TOP_HEM = ('top_hem_left', 'top_hem_right')
_HEM = ('hemline_left', 'hemline_right')
_BOTTOMS = ('bottom_left_in', 'bottom_left_out', 'bottom_right_in', 'bottom_right_out')

_KEYPOINTS = (
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
)
# Points that follow each other along the edges of a garment, {} being a side: a sleeveless garment
# gets its armhole, and a skirt its side.
_EDGES = (
    ('neckline_{}', 'shoulder_{}', 'cuff_{}_out', 'cuff_{}_in', 'armpit_{}'),
    ('armpit_{}', 'waistline_{}', 'top_hem_{}', 'hemline_{}'),
    ('waistband_{}', 'hemline_{}'),
    ('waistband_{}', 'bottom_{}_out', 'bottom_{}_in', 'crotch'),
)
_ENDS = ('cuff', 'bottom')  # with an inner and an outer end on each side
# From top to bottom; of points in one group either may be higher.
_LEVELS = (
    _NECK,
    (*_SHOULDERS, 'center_front'),
    _UPPER,
    (*_WAIST, *_LOWER),
    ('crotch',),
    (*_TOP_HEM, *_HEM, *_BOTTOMS),
)
# What a tailor measures of a garment that lies flat; of these a category has those that it has all
# points of. {} is a side. Along a bent sleeve or leg it is the straight line.
_ACROSS = {
    'shoulder_width': _SHOULDERS,
    'chest_width': _UPPER,
    'waist_width': _WAIST,
    'waistband_width': _LOWER,
    'top_hem_width': _TOP_HEM,
    'hem_width': _HEM,
}
_ALONG = {
    'length_to_top_hem': (_NECK, _TOP_HEM),
    'length_to_hem': (_NECK, _HEM),
    'skirt_length': (_LOWER, _HEM),
}
_OF_SIDES = {
    'sleeve_{}': (('shoulder_{}',), ('cuff_{}_in', 'cuff_{}_out')),
    'cuff_{}_width': (('cuff_{}_in',), ('cuff_{}_out',)),
    'outseam_{}': (('waistband_{}',), ('bottom_{}_out',)),
    'inseam_{}': (('crotch',), ('bottom_{}_in',)),
    'leg_{}_width': (('bottom_{}_in',), ('bottom_{}_out',)),
}
_MEASUREMENTS = {
    **{name: ((a,), (b,)) for name, (a, b) in _ACROSS.items()},
    **_ALONG,
    **{
        name.format(side): tuple(tuple(n.format(side) for n in end) for end in ends)
        for name, ends in _OF_SIDES.items()
        for side in ('left', 'right')
    },
}

SCHEMA = KeypointSchema(
    name='fashionai',
    keypoints=_KEYPOINTS,
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
    skeleton=(
        ('neckline_left', 'center_front', 'neckline_right'),
        *(tuple(n.format(side) for n in edge) for edge in _EDGES for side in ('left', 'right')),
        *(_WAIST, _LOWER, _TOP_HEM, _HEM),
    ),
    # 'left' is the left of the picture: in at most 12 % of the annotations of any category two
    # points stand the other way round (trousers' inner hems, legs crossed).
    left_of=(
        *named_pairs(_KEYPOINTS),
        *((f'{end}_left_out', f'{end}_left_in') for end in _ENDS),
        *((f'{end}_right_in', f'{end}_right_out') for end in _ENDS),
    ),
    levels={name: level for level, names in enumerate(_LEVELS) for name in names},
    usual_side=512,
    # Medians of the annotations are 0.99 to 1.03, of submissions 0.92 to 1.02; the 99th percentile
    # of how far points reach is 0.97 or more.
    usual_middle=(0.9, 1.12),
    usual_reach=0.9,
    measurements=_MEASUREMENTS,
)


def find_splits(data_dir: str, allow_links: Sequence[str] = ()) -> list[Split]:
    """Return the splits below `data_dir`, in either layout; see fashionai_layouts.find_splits."""
    return fashionai_layouts.find_splits(data_dir, SCHEMA, allow_links)


DATASETS.register('fashionai')(DatasetSpec(schema=SCHEMA, find_splits=find_splits))
