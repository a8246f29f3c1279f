"""Networks as files that work without this project: graph.ExportGraph, FORMATS, folder.export."""

PRECISIONS = ('float32', 'float16', 'int8')  # that files may have
