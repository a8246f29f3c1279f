"""What a train script does instead of training: dry run, profile of the input, rate finder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from absl import logging

from utility.checkpoints import snapshots
from utility.checkpoints.variables import Weights
from utility.pretrained import warm_start
from utility.train import stages
from utility.train.flags import RunOptions
from utility.train.model_fn import Task
from utility.train.plan import Plan, make_plan
from utility.train.preflight import dry_run, input_profile, learning_rate_finder


def rehearse(
    networks: Sequence[stages.Training], options_of_each: Sequence[RunOptions], replicas: int
) -> None:
    """Run the dry run of the networks, the profile of their input, or the search for their rates.

    Args:
        options_of_each: Of their trainings; they differ in the precision alone.
        replicas: That a training would have.

    Raises:
        UserError: A setting is wrong.
    """
    first = [network.folder for network in networks if not network.source]
    backbone = networks[0].experiment.network.backbone
    with warm_start.for_runs(first, options_of_each[0].init_checkpoint, backbone) as given:
        for network, options in zip(networks, options_of_each):
            plan = make_plan(network.experiment, options.data_dir, replicas)
            if options.profile_input:
                _print(network, _profile(network, plan, options))
            elif options.dry_run:
                _print(network, _dry_run(network, plan, options, given))
            else:
                _find_rate(network, plan, options, given)


def _print(network: stages.Training, lines: Iterable[str]) -> None:
    print(f'\n{network.folder}\n')
    for line in lines:
        print(line, flush=True)


def _profile(network: stages.Training, plan: Plan, options: RunOptions) -> Iterable[str]:
    return input_profile.describe(
        network.experiment, plan, options.data_dir, options.compute, options.augment_on
    )


def _dry_run(
    network: stages.Training, plan: Plan, options: RunOptions, given: Weights | None
) -> Iterable[str]:
    # What a network for a category goes on from may not be trained yet.
    is_known = not network.source or snapshots.has_any(network.source)
    start = stages.starting_weights(network, given) if is_known else contextlib.nullcontext()
    with start as weights:
        task = Task(
            network.experiment,
            plan.schema,
            plan.length,
            weights=weights,
            allow_partial_init=options.allow_partial_init,
            has_start=is_known,
            compute=options.compute,
        )
        return dry_run.describe(task, plan, options.data_dir, network.folder)


def _find_rate(
    network: stages.Training, plan: Plan, options: RunOptions, given: Weights | None
) -> None:
    experiment, folder = network.experiment, network.folder
    with stages.starting_weights(network, given) as weights:
        finding = learning_rate_finder.run(
            experiment, plan, options.data_dir, folder, weights, options.compute
        )
    print(f'{folder}: {finding}')
    logging.info('%s/%s shows the losses', folder, learning_rate_finder.PAGE)
