"""Weights to start from: of this project, of TensorFlow 1, of Keras and of PyTorch.

`--init_checkpoint=PATH` of the train scripts starts from them; `python -m utility.pretrained` lists
and fetches them. warm_start.py is the way in.
"""
