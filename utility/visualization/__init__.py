"""Drawings of keypoints, charts, HTML pages and summaries for TensorBoard."""
