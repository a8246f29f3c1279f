"""What holds for every test."""

import os

# Before anything imports TensorFlow.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

import hypothesis  # noqa: E402

# The same examples in every run, and no failure because the machine was busy.
hypothesis.settings.register_profile('fixed', derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile('fixed')
