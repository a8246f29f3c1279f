"""From trained networks to points: load for programs, predictor.predict_split for records."""

from __future__ import annotations


def load(source, **options):
    """Open trained networks to predict images with; see utility.predict.api.load.

    with load('logs/resnet50_cpn') as model:
        result = model.predict('shirt.jpg', category='blouse')
    """
    from utility.command_line.imports import of_tensorflow

    with of_tensorflow(hidden=()):
        from utility.predict import api  # here, because it imports TensorFlow

    return api.load(source, **options)
