"""Runs on disk: experiments, checkpoints, evaluations, the best and the averaged weights."""
