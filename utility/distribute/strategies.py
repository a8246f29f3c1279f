"""Over which devices and processes a training is spread: tf.distribute, by name.

none              one device
mirrored          all GPUs of this machine; without any, its logical CPUs
multi_worker      the same on each of several machines, in step: a step is one batch of every device
parameter_server  several machines, each at its own pace; the weights are with the parameter servers

The processes of the last two find each other by TF_CONFIG (utility/distribute/cluster.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import logging

from config import OptimizerConfig, UserError
from utility.command_line import environment
from utility.distribute import cluster as clusters
from utility.distribute.cluster import Cluster
from utility.optim import addons

STRATEGIES = ('none', 'mirrored', 'multi_worker', 'parameter_server')


@dataclasses.dataclass(frozen=True)
class Distribution:
    """How a training is spread.

    Attributes:
        strategy: Of tf.distribute; None: no strategy.
        cluster: The processes; None: this one alone.
    """

    strategy: Any = None
    cluster: Cluster | None = None

    @property
    def replicas(self) -> int:
        """Of how many batches a step is."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def is_in_step(self) -> bool:
        """Whether all processes begin, and take every step, together."""
        return self.cluster is None or clusters.SERVER not in self.cluster.jobs

    def check_averaging(self, kind: str) -> None:
        """Refuse averaging.kind where the weights never are those after a certain step.

        Raises:
            UserError: With --strategy=parameter_server, for any kind but 'none'.
        """
        if kind != 'none' and not self.is_in_step:
            raise UserError(
                f'averaging.kind={kind!r}: with --strategy=parameter_server other workers move the '
                'weights while they are averaged; average checkpoints instead (--average_last of '
                'the eval scripts, python -m utility.checkpoints)'
            )

    def check_optimizer(self, optimizer: OptimizerConfig) -> None:
        """Refuse what counts updates where workers make them each at its own pace.

        Raises:
            UserError: With --strategy=parameter_server; names the setting.
        """
        for name, off in (('accumulate', 1), ('lookahead_steps', 0)):
            value = getattr(optimizer, name)
            if value != off and not self.is_in_step:
                raise UserError(
                    f'optimizer.{name}={value}: with --strategy=parameter_server every worker '
                    'makes updates of its own between those that are counted; leave it out or '
                    'take --strategy=multi_worker'
                )
        if optimizer.name.startswith(addons.PREFIX) and not self.is_in_step:
            raise UserError(
                f'optimizer.name={optimizer.name!r}: an update of it reads and writes a weight in '
                'several operations, and with --strategy=parameter_server other workers move the '
                'weight between them; take adam or --strategy=multi_worker'
            )

    def check_networks(self, names: Sequence[str]) -> None:
        """Refuse several networks where the weights are with parameter servers.

        Raises:
            UserError: With --strategy=parameter_server, for more than one name.
        """
        if len(names) > 1 and not self.is_in_step:
            raise UserError(
                f'--strategy=parameter_server: trains one network, not {", ".join(names)}: the '
                'servers would give the next one the weights of the last; start it for each '
                '--category, or with --category=all'
            )


def find_cluster(name: str) -> Cluster | None:
    """Return the processes that a strategy is to span; None: this one alone.

    Raises:
        UserError: TF_CONFIG is wrong, or is not what the strategy needs.
    """
    cluster = clusters.from_environment()
    if cluster is None or cluster.num_processes == 1:
        if name == 'parameter_server':
            raise UserError(
                '--strategy=parameter_server: needs a chief and a ps in TF_CONFIG; '
                '`python -m utility.distribute.launch_local --servers=1` makes one on this machine'
            )
        return None
    if name not in ('multi_worker', 'parameter_server'):
        raise UserError(
            f'--strategy={name}: TF_CONFIG names {cluster.num_processes} processes, each of which '
            'would train on its own; give --strategy=multi_worker or parameter_server'
        )
    if clusters.EVALUATOR in (cluster.job, *cluster.jobs):
        raise UserError('TF_CONFIG: no evaluator is needed; the chief evaluates')
    if name == 'multi_worker' and clusters.SERVER in cluster.jobs:
        raise UserError('--strategy=multi_worker: has no use for the ps of TF_CONFIG')
    if name == 'parameter_server' and not {clusters.CHIEF, clusters.SERVER} <= cluster.jobs.keys():
        raise UserError('--strategy=parameter_server: needs a chief and a ps in TF_CONFIG')
    return cluster


def check_rehearsal(name: str) -> None:
    """Refuse to rehearse in a cluster, where a process would wait for all others first.

    Raises:
        UserError: TF_CONFIG names a cluster, or is wrong as find_cluster tells.
    """
    cluster = find_cluster(name)
    if cluster is not None:
        raise UserError(
            f'--dry_run, --find_learning_rate: TF_CONFIG names {cluster.num_processes} processes, '
            'and these are for one; unset it, and give --strategy=mirrored or none. A step of the '
            'cluster is a batch of each device of all its workers'
        )


def start(name: str, logical_cpus: int = 0) -> Distribution:
    """Make the strategy; before anything else of TensorFlow runs.

    A parameter server serves from here on, and does not return.

    Args:
        name: One of STRATEGIES.
        logical_cpus: Parts, each a device, to make of the CPU for 'mirrored'; 0: leave it as it is.

    Raises:
        UserError: As find_cluster, or the CPU is to be divided for another strategy.
    """
    import tensorflow as tf

    cluster = find_cluster(name)
    if logical_cpus:
        if name != 'mirrored':
            raise UserError(f'--logical_cpus={logical_cpus}: is for --strategy=mirrored only')
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices('CPU')[0],
            [tf.config.LogicalDeviceConfiguration()] * logical_cpus,
        )
    if cluster is None:
        # The Estimator would read it: a cluster of this process alone is no cluster.
        environment.remove(clusters.VARIABLE)
        if name == 'multi_worker':
            logging.info('--strategy=multi_worker: TF_CONFIG names no other process; as mirrored')
        return Distribution(None if name == 'none' else _mirrored())
    logging.info('%s', cluster)
    if cluster.job == clusters.SERVER:
        tf.distribute.Server(dict(cluster.jobs), clusters.SERVER, cluster.index).join()
    if not cluster.is_chief:
        logging.info('the chief tells the progress')
        logging.set_verbosity(logging.WARNING)
    if name == 'multi_worker':
        return Distribution(tf.distribute.MultiWorkerMirroredStrategy(), cluster)
    logging.info('each of %d workers at its own pace: a step is one of theirs', cluster.num_workers)
    # That of TensorFlow 2 is for Keras and custom loops; the Estimator works with this one only.
    servers = tf.compat.v1.distribute.experimental.ParameterServerStrategy()
    return Distribution(servers, cluster)


def _mirrored():
    import tensorflow as tf

    devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
    # The default all-reduce hangs in an Estimator when all devices are CPUs.
    reduction = tf.distribute.ReductionToOneDevice() if devices[0].device_type == 'CPU' else None
    return tf.distribute.MirroredStrategy([device.name for device in devices], reduction)
