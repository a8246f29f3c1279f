"""Audit of annotations: which of them are suspect, and why."""
