"""Keypoints as heat maps and back: HeatmapCodec, its refinements, offset maps."""
