"""Networks as files that work without this project: graph.ExportGraph, FORMATS, folder.export."""
