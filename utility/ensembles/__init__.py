"""One submission of several: means, medians, and weights learned on validation predictions."""
