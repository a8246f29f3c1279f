"""What a train script does instead of training: dry run, profile of the input, rate finder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from absl import logging

from utility.pretrained.loading import as_checkpoint
from utility.train import stages
from utility.train.flags import RunOptions
from utility.train.plan import make_plan
from utility.train.preflight import dry_run, input_profile, learning_rate_finder


def rehearse(networks: Sequence[stages.Training], options: RunOptions, replicas: int) -> None:
    """The dry run of the networks, the profile of their input, or the search for their rates.

    Args:
        networks: Of the command.
        options: Of the training.
        replicas: That a training would have.

    Raises:
        UserError: A setting is wrong.
    """
    if options.dry_run or options.profile_input:
        for network in networks:
            plan = make_plan(network.experiment, options.data_dir, replicas)
            print(f'\n{network.folder}\n')
            message = network.experiment, plan, options.data_dir, options.compute
            if options.dry_run:
                lines = dry_run.describe(*message)
            else:
                lines = input_profile.describe(*message, options.augment_on)
            for line in lines:
                print(line, flush=True)
        return
    path = options.init_checkpoint
    backbone = networks[0].experiment.network.backbone
    with as_checkpoint(path, backbone) if path else contextlib.nullcontext() as given:
        for network in networks:
            experiment, folder = network.experiment, network.folder
            plan = make_plan(experiment, options.data_dir, replicas)
            with stages.starting_weights(network, given) as weights:
                found = learning_rate_finder.run(
                    experiment, plan, options.data_dir, folder, weights, options.compute
                )
            print(f'{folder}: {found}')
            logging.info('%s/%s shows the losses', folder, learning_rate_finder.PAGE)
