"""From annotations and image files to TFRecords and dataset.json: convert.convert."""
