"""Losses over heat maps: heatmap_loss, its kinds, and online hard keypoint mining."""
