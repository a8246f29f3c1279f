"""What the training of a network amounts to on given records: its length, where it is evaluated."""

from __future__ import annotations

import dataclasses

from config import MAX_EPOCHS, MAX_STEPS, Experiment, UserError
from preprocessing import training_data
from preprocessing.datasets import schema_of
from preprocessing.schema import KeypointSchema
from utility.optim import rules, schedules, weight_averaging
from utility.optim.schedules import Length


@dataclasses.dataclass(frozen=True)
class Plan:
    """The training of one network.

    Attributes:
        schema: Its keypoints, of one category or of all.
        num_train, num_val: Pictures to train and to validate with.
        eval_categories: Categories that the validation split holds.
        replicas: That each read a batch in every step.
        length: Of the training, in steps.
        stops: Steps at which it is evaluated; the last one ends it.
        freeze_at: Step from which on batch norm keeps its statistics; None: it never does.
        batch_size: Pictures that a replica reads in a step.
        accumulate: Steps that make one update.
    """

    schema: KeypointSchema
    num_train: int
    num_val: int
    eval_categories: tuple[str, ...]
    replicas: int
    length: Length
    stops: tuple[int, ...]
    freeze_at: int | None
    batch_size: int
    accumulate: int

    def __str__(self) -> str:
        sizes = f'{self.batch_size}'
        if self.replicas > 1:
            sizes += f' x {self.replicas} replicas'
        if self.accumulate > 1:
            sizes += f' x {self.accumulate} steps an update'
        if ' ' in sizes:
            sizes += f' = {self.batch_size * self.replicas * self.accumulate}'
        return f'{self.num_train} pictures, batch {sizes}, {self.length.total_steps} steps in all'


def make_plan(experiment: Experiment, data_dir: str, replicas: int) -> Plan:
    """Return the plan of an experiment on these records.

    A step reads one batch a replica. With optimizer.accumulate a training takes whole updates: each
    stop is a multiple of it.

    Raises:
        UserError: The optimizer, the schedule or the records are not fit for it.
    """
    data, optimizer, schedule = experiment.data, experiment.optimizer, experiment.schedule
    rules.check_optimizer(optimizer)
    schedules.check_rates(optimizer, schedule)
    schema = schema_of(data).subset(data.category)
    counts = training_data.count(data_dir, experiment)
    num_train, num_val = (training_data.num_records(counts[s], schema) for s in ('train', 'val'))
    for name, is_used in (
        ("name='plateau'", schedule.name == 'plateau'),
        (f'stop_patience={schedule.stop_patience}', schedule.stop_patience > 0),
    ):
        if is_used and not num_val:
            raise UserError(
                f'schedule.{name}: goes by the NE of the validation, and {data_dir} has no '
                f'validation pictures of {data.category}'
            )
    steps_per_epoch = num_train / (data.batch_size * replicas)
    number = optimizer.accumulate
    epochs_per_eval = experiment.epochs_per_eval or experiment.epochs / experiment.evaluations
    _check_length(experiment.epochs, epochs_per_eval, steps_per_epoch)
    stops = evaluation_steps(experiment.epochs, epochs_per_eval, steps_per_epoch / number)
    length = Length(number * stops[-1], steps_per_epoch)
    weight_averaging.check_averaging(experiment, length)
    return Plan(
        schema=schema,
        num_train=num_train,
        num_val=num_val,
        eval_categories=tuple(name for name in schema.categories if counts['val'].get(name)),
        replicas=replicas,
        length=length,
        stops=tuple(number * stop for stop in stops),
        freeze_at=freeze_step(experiment, length.total_steps),
        batch_size=data.batch_size,
        accumulate=number,
    )


def freeze_step(experiment: Experiment, total_steps: int) -> int | None:
    """Return the step from which on batch norm keeps its statistics, at the end of an update; None
    if there is no such step.

    Raises:
        UserError: There is no batch norm, or the weights are averaged, which then get statistics of
            their own.
    """
    network, number = experiment.network, experiment.optimizer.accumulate
    share, kind = network.freeze_norm_from, experiment.averaging.kind
    if share == 1:
        return None
    if 'batch' not in (network.norm, network.norm_of_head) or kind != 'none':
        raise UserError(
            f'network.freeze_norm_from={share:g}: must be 1 with network.norm={network.norm!r} and '
            f'averaging.kind={kind!r}; it is for batch norm, of weights that are not averaged'
        )
    step = max(number, number * round(share * total_steps / number))
    return step if step < total_steps else None


def _check_length(epochs: float, epochs_per_eval: float, steps_per_epoch: float) -> None:
    """Refuse a training that no machine ends, or one that does nothing but evaluate."""
    if epochs * steps_per_epoch > MAX_STEPS:
        raise UserError(
            f'epochs={epochs:g}: {epochs * steps_per_epoch:.3g} steps; at most {MAX_STEPS:,}, '
            f'which are {MAX_STEPS / steps_per_epoch:,.0f} epochs of these records'
        )
    evaluations = epochs * steps_per_epoch / max(1.0, epochs_per_eval * steps_per_epoch)
    if evaluations > MAX_EPOCHS:
        raise UserError(
            f'epochs_per_eval={epochs_per_eval:g}: {evaluations:,.0f} evaluations; at most '
            f'{MAX_EPOCHS:,}'
        )


def evaluation_steps(epochs: float, epochs_per_eval: float, steps_per_epoch: float) -> list[int]:
    """Return the steps at which a training stops to evaluate; the last one ends it.

    No epoch is dropped: the last stretch is as long as it takes.
    """
    total = max(1, round(epochs * steps_per_epoch))
    stretch = max(1.0, epochs_per_eval * steps_per_epoch)
    stops = {round(i * stretch) for i in range(1, int(total / stretch) + 1)}
    return sorted({stop for stop in stops if 0 < stop < total} | {total})
