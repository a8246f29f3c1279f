"""From annotations on disk to augmented batches."""
