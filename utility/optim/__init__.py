"""The training step: update rules, schedules, loss scale, averaging, gradient checkpointing."""
