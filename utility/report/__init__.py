"""The report of a run: one page with all that is known of it, a model card, experiment trackers."""
