"""A schema of no real data set: two categories that share points, with two kinds of normalizer."""

from __future__ import annotations

from preprocessing.schema import KeypointSchema

NAMES = ('brim_left', 'brim_right', 'top', 'sole')
SCHEMA = KeypointSchema(
    'wardrobe',
    NAMES,
    {'hat': NAMES[:3], 'shoe shop': ('brim_left', 'brim_right', 'sole')},
    {'hat': NAMES[:2], 'shoe shop': 'sqrt_box_area'},
    swaps=(NAMES[:2],),
    skeleton=(('brim_left', 'top', 'brim_right'),),
)
SIZE = (60, 83)  # height, width: odd, so that shares and percents do not end
