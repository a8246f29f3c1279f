"""Synthetic garments with exact keypoints, in the manner of the FashionAI challenge of 2018.

`render` draws one picture; dataset.py writes whole data sets in the challenge's layout.

What the points mean, as in the challenge's own annotations:

* 'left' is the left of the picture for an upright garment seen from the front.
* A cuff or trouser bottom ends in two corners: 'out' continues the shoulder seam or the outer side
  seam, 'in' the armpit or the crotch; so they keep their meaning in any pose.
* A sleeveless garment has no cuffs: all four are absent. One with straps has no shoulders either;
  its neckline points are the upper ends of the straps.
* The waistline exists only where a seam or a belt marks it.
* An armpit is occluded (v = 0) where the sleeve hangs against the body; any point is occluded where
  something painted later covers it: an arm, hair, an untucked shirt, a bag, a box.
* A point outside the picture is absent (v = -1).

Outlines, seams and points go through the same bend and the same matrix, so the points are exact.
"""

from demos.garments.scenes import render

__all__ = ['render']
