"""Which networks a command trains, in which order, and from what each of them starts.

`each`: a network for every category. `all`: one for all of them. `all_then_each`: the one for all,
and then one for every category, which goes on from it as the section `finetune` says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import logging

from config import ALL_THEN_EACH, Experiment, FinetuneConfig
from nets.names import is_of_heatmaps
from preprocessing.datasets import schema_of
from utility.checkpoints import choice, snapshots, variables
from utility.checkpoints.choice import CheckpointChoice
from utility.checkpoints.variables import Weights
from utility.losses import heatmap_loss
from utility.pretrained import warm_start
from utility.train.flags import RunOptions


@dataclasses.dataclass(frozen=True)
class Training:
    """One network of a command.

    Attributes:
        folder: Where it is kept.
        experiment: What is trained, of one category or of all.
        source: Folder of the network that it goes on from; '': it starts from the weights of
            --init_checkpoint or from none.
    """

    folder: str
    experiment: Experiment
    source: str = ''


def trainings(
    experiment: Experiment, categories: Sequence[str], options: RunOptions
) -> list[Training]:
    """Return the networks of a command, in the order in which they are trained.

    Args:
        experiment: With what all have in common.
        categories: Those of the networks, from training_data.categories.

    Raises:
        UserError: The weights to start from need other settings.
    """
    folders = {name: os.path.join(options.model_dir, name) for name in categories}
    finetunes = options.category == ALL_THEN_EACH
    first = [folders['all']] if finetunes else list(folders.values())
    adopted = warm_start.adopt_for_runs(
        experiment.network, first, options.init_checkpoint, options.allow_partial_init
    )
    planned = []
    for category, folder in folders.items():
        goes_on = finetunes and category != 'all'
        category_experiment = finetuned(experiment) if goes_on else _from_scratch(experiment)
        source = folders['all'] if goes_on else ''
        category_experiment = dataclasses.replace(
            category_experiment, network=adopted[source or folder]
        )
        planned.append(
            Training(folder, category_experiment.override(f'data.category={category}'), source)
        )
    return planned


def _from_scratch(experiment: Experiment) -> Experiment:
    """Return the experiment without the fine-tuning, which says nothing of this network."""
    return dataclasses.replace(experiment, finetune=FinetuneConfig())


def finetuned(experiment: Experiment) -> Experiment:
    """Return the experiment of a network that goes on from the one for all."""
    finetune, optimizer = experiment.finetune, experiment.optimizer
    rate = optimizer.learning_rate * finetune.learning_rate_factor
    return dataclasses.replace(
        experiment,
        epochs=finetune.epochs,
        schedule=finetune.schedule,
        optimizer=dataclasses.replace(optimizer, learning_rate=rate),
        starts_from='all',
    )


@contextlib.contextmanager
def starting_weights(training: Training, given: Weights | None) -> Iterator[Weights | None]:
    """Provide what a network starts from, as long as the context lasts.

    Args:
        training: Of the network.
        given: The weights of --init_checkpoint.

    Raises:
        UserError: The network to go on from has no checkpoint.
    """
    if not training.source:
        yield given
    else:
        prefix = choice.choose(training.source, CheckpointChoice())
        tensors = transfer_head_channels(snapshots.read_weights(prefix), training.experiment)
        with tempfile.TemporaryDirectory(prefix='weights_') as folder:
            path = os.path.join(folder, 'weights.ckpt')
            variables.save(path, tensors)
            weights = variables.own_weights(path)
            head = training.experiment.network.head
            yield dataclasses.replace(weights, path=prefix, head=head)


def transfer_head_channels(
    tensors: Mapping[str, np.ndarray], experiment: Experiment
) -> dict[str, np.ndarray]:
    """Return what of the network for all is taken over by one for a category.

    All but the layers that depend on the keypoints; of these the channels of its own keypoints, or
    nothing, as finetune.heatmap_layers says.

    Args:
        tensors: By name, of the network for all.
        experiment: Of the network for a category.
    """
    full = schema_of(experiment.data)
    positions = full.subset(experiment.data.category).record_positions
    maps = range(heatmap_loss.maps_per_point(experiment.loss))
    channels = [number * full.num_keypoints + keypoint for number in maps for keypoint in positions]
    size = full.num_keypoints * len(maps)
    dependent = [name for name in tensors if is_of_heatmaps(name)]
    if experiment.finetune.heatmap_layers == 'fresh':
        return {name: tensor for name, tensor in tensors.items() if name not in dependent}
    logging.info('%d layers of heat maps: %d of %d channels', len(dependent), len(channels), size)
    cut = {name: _channels_of(tensors[name], channels, size) for name in dependent}
    return {**tensors, **cut}


def _channels_of(tensor: np.ndarray, channels: Sequence[int], size: int) -> np.ndarray:
    """Return these channels of each axis that has the number of channels of all."""
    for axis, length in enumerate(tensor.shape):
        if length == size:
            tensor = np.take(tensor, channels, axis=axis)
    return tensor
