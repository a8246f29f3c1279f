"""What a train script does instead of training: the dry run and the learning-rate finder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from absl import logging

from config import Experiment
from utility import dry_run, learning_rate_finder
from utility.plan import make_plan
from utility.training_flags import RunOptions
from utility.weights.loading import as_checkpoint


def rehearse(networks: Mapping[str, Experiment], options: RunOptions, replicas: int) -> None:
    """The dry run of the networks or, if that is asked for, the search for their rates.

    Args:
        networks: Folder of a network -> its experiment.
        options: Of the training.
        replicas: That a training would have.

    Raises:
        ValueError: A setting is wrong.
    """
    if options.dry_run:
        for folder, experiment in networks.items():
            plan = make_plan(experiment, options.data_dir, replicas)
            print(f'\n{folder}\n')
            for line in dry_run.describe(experiment, plan, options.data_dir):
                print(line)
        return
    path = options.init_checkpoint
    backbone = next(iter(networks.values())).network.backbone
    with as_checkpoint(path, backbone) if path else contextlib.nullcontext() as weights:
        for folder, experiment in networks.items():
            plan = make_plan(experiment, options.data_dir, replicas)
            found = learning_rate_finder.run(experiment, plan, options.data_dir, folder, weights)
            print(f'{folder}: {found}')
            logging.info('%s/%s shows the losses', folder, learning_rate_finder.PAGE)
