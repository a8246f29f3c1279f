"""How far off each point may be: radii that are learned from pictures with known points.

    calibration = uncertainty.calibrate(predictions, annotations, schema, options)
    radii = calibration.radii(other_predictions, level=0.9)

Four fifths of the pictures teach how errors grow with what heat maps tell (features.FEATURES, by
conformal.ErrorModel of utility.statistics). The others, in turn, say by how much these sizes must
be multiplied to hold a share `level` of the errors, by keypoint and category where there are enough
of them: cross-conformal prediction (V. Vovk, Cross-conformal predictors, 2015). What is proven of
it is less than what it does; tests and benchmarks.uncertainty count that. It holds for pictures
like those that calibrated: `Calibration.shifts` says where they are not. Pictures are what is
exchangeable, not points: of the points of a picture one is often wrong where another is, so that of
few pictures the share varies more than the number of points lets one think.

`load`, `read` and `of_split` bring a Calibration from a file, a run or a split, `assess` compares
its radii with known points, and `table_of` and `warn_of_shift` tell them.
"""

from utility.predict.uncertainty.assessment import Assessment, assess, format_assessment
from utility.predict.uncertainty.calibration import LEVEL, Calibration, of_node, read
from utility.predict.uncertainty.features import FEATURES, POINT_FEATURES, length
from utility.predict.uncertainty.fitting import calibrate, chosen_half
from utility.predict.uncertainty.output import sentence_of, table_of, warn_of_shift
from utility.predict.uncertainty.sources import FILE, file_of, load, of_split, predicted_one_by_one

__all__ = (
    'FEATURES',
    'FILE',
    'LEVEL',
    'POINT_FEATURES',
    'Assessment',
    'Calibration',
    'assess',
    'calibrate',
    'chosen_half',
    'file_of',
    'format_assessment',
    'length',
    'load',
    'of_node',
    'of_split',
    'predicted_one_by_one',
    'read',
    'sentence_of',
    'table_of',
    'warn_of_shift',
)
