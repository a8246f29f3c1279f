"""Weights published elsewhere: whose a file is, and what its tensors are called here.

One file for each place that they come from needs neither TensorFlow nor the weights: names and
shapes do. loading.py reads them, match_settings.py says what they need of a network, published.py
where to get them; warm_start.py is the way in.
"""

from __future__ import annotations

from config import UserError
from utility.pretrained import efficientnet_lite, keras, pytorch, tensorflow1
from utility.pretrained.origin import Origin, Shapes, Source

__all__ = ['ORIGINS', 'Origin', 'Shapes', 'Source', 'identify']

# The first that a file fits is the one: HRNet has the names of ResNet, and more.
ORIGINS = (
    pytorch.HRNET,
    pytorch.LEGACY_SENET,
    pytorch.RESNET,
    efficientnet_lite.ORIGIN,
    keras.RESNET,
    tensorflow1.SE_RESNET,
    tensorflow1.OFFICIAL_RESNET,
)
KERAS_PREFIX = 'keras/'


def identify(shapes: Shapes, kind: str, backbone: str = '') -> Origin:
    """Return whose weights a file holds.

    Args:
        shapes: Of its tensors.
        kind: Of the file, as WeightFile has it.
        backbone: That is to take them; those of keras/<Name> take files of Keras by name.

    Raises:
        UserError: They are of no known origin.
    """
    if kind == 'keras' and backbone.startswith(KERAS_PREFIX):
        return keras.by_name(backbone)
    for origin in ORIGINS:
        if origin.is_origin(shapes):
            return origin
    first = ', '.join(list(shapes)[:3])
    hint = '; of Keras, only keras/<Name> takes other networks' if kind == 'keras' else ''
    known = '; '.join(origin.name for origin in ORIGINS)
    raise UserError(f'weights of unknown origin ({first}, ...){hint}. Known: {known}')
