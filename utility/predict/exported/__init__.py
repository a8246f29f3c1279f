"""Folders that utility.export writes: what reads and runs them, here and in their own predict.py.

Of the modules of this package and of preprocessing/conversion/decoding.py a folder carries a copy,
put together by utility.export.folder. So they import NumPy and Pillow alone, and the runtime of a
format inside of `start`: f(folder, description) -> f(image, category) -> (keypoints, scores, and
what description['tells'] names, in that order, if there is such an entry).
There description is model.json, image uint8 [H, W, 3], category its position in
description['categories'], or -1 where the network is to tell it, keypoints float32 [K, 2] px of
the image, and scores float32 [K].
"""

# Export format -> the module run_<name> that runs its files.
RUNNERS = {'saved_model': 'saved_model', 'onnx': 'onnx', 'tflite': 'tflite', 'web': 'onnx'}
