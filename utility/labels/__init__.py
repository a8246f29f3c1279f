"""Audit of annotations: which are suspect, and why; and the loop: which pictures to label next."""
