"""The processes of a training on several machines, as TF_CONFIG names them.

TF_CONFIG is set in each process by Kubernetes (TFJob), by Vertex AI and by launch_local.py:

    {"cluster": {"chief": ["host0:2222"], "worker": ["host1:2222", "host2:2222"]},
     "task": {"type": "worker", "index": 1}}

Imports nothing that is slow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from config import UserError
from utility.command_line import environment

VARIABLE = 'TF_CONFIG'
CHIEF, WORKER, SERVER, EVALUATOR = 'chief', 'worker', 'ps', 'evaluator'
_JOBS = (CHIEF, WORKER, SERVER, EVALUATOR)
_ADDRESS = re.compile(r'(\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+):(\d{1,5})')
_MAX_PORT = 65535


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All processes, and which of them this is.

    Attributes:
        jobs: Job -> addresses, 'host:port'.
        job: This process's: 'chief', 'worker', 'ps' or 'evaluator'.
        index: Of this process in its job.
    """

    jobs: Mapping[str, tuple[str, ...]]
    job: str
    index: int

    @property
    def num_processes(self) -> int:
        return sum(map(len, self.jobs.values()))

    @property
    def num_workers(self) -> int:
        """How many processes train: the chief does, parameter servers do not."""
        return sum(len(self.jobs.get(job, ())) for job in (CHIEF, WORKER))

    @property
    def is_chief(self) -> bool:
        """Whether this process evaluates and writes: the chief or, without one, worker 0."""
        return self.job == CHIEF or (
            CHIEF not in self.jobs and (self.job, self.index) == (WORKER, 0)
        )

    def __str__(self) -> str:
        sizes = ', '.join(f'{len(addresses)} {job}' for job, addresses in self.jobs.items())
        return f'{self.job} {self.index} of a cluster of {sizes}'


def from_environment(variables: Mapping[str, str] = os.environ) -> Cluster | None:
    """Return the cluster that TF_CONFIG names; None where it names none.

    Raises:
        UserError: It is not as above; tells what is wrong with it.
    """
    text = variables.get(VARIABLE, '').strip()
    if not text:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{VARIABLE}={_short(text)}: not JSON: {error}') from error
    if not isinstance(values, dict):
        raise _wrong(VARIABLE, values, 'an object with cluster and task')
    if not values.get('cluster'):
        return None
    jobs = _jobs(values['cluster'])
    return Cluster(jobs, *_task(values.get('task'), jobs))


def hidden() -> contextlib.AbstractContextManager[None]:
    """Hide TF_CONFIG as long as the context lasts, from what is not to join the cluster."""
    return environment.hidden(VARIABLE)


def to_json(cluster: Cluster) -> str:
    """Return the TF_CONFIG of a process; the inverse of from_environment."""
    task = {'type': cluster.job, 'index': cluster.index}
    return json.dumps({'cluster': dict(cluster.jobs), 'task': task})


def _jobs(values: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(values, dict):
        raise _wrong('cluster', values, 'an object of job -> list of addresses')
    for job, addresses in values.items():
        if job not in _JOBS:
            raise _wrong('cluster', job, f'of the jobs {", ".join(_JOBS)}')
        if not isinstance(addresses, list) or not addresses:
            raise _wrong(f'cluster.{job}', addresses, "a list of 'host:port'")
        for address in addresses:
            match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if not match or not 0 < int(match.group(2)) <= _MAX_PORT:
                raise _wrong(f'cluster.{job}', address, "'host:port'")
    everywhere = [address for addresses in values.values() for address in addresses]
    for address in everywhere:
        if everywhere.count(address) > 1:
            raise _wrong('cluster', address, 'there once')
    if len(values.get(CHIEF, ())) > 1:
        raise _wrong(f'cluster.{CHIEF}', values[CHIEF], 'one address')
    if not (values.get(CHIEF) or values.get(WORKER)):
        raise _wrong('cluster', sorted(values), f'with a {CHIEF} or a {WORKER}')
    return {job: tuple(addresses) for job, addresses in values.items()}


def _task(values: Any, jobs: Mapping[str, tuple[str, ...]]) -> tuple[str, int]:
    if not isinstance(values, dict):
        raise _wrong('task', values, 'an object with type and index')
    job, index = values.get('type'), values.get('index', 0)
    # An evaluator stands beside the cluster and need not be listed in it.
    if job not in (*jobs, EVALUATOR):
        raise _wrong('task.type', job, f'one of {", ".join(jobs)}')
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    size = len(jobs.get(job, ('',)))
    if type(index) is not int or not 0 <= index < size:
        raise _wrong('task.index', index, f'0 to {size - 1} of {job}' if size > 1 else '0')
    return job, index


def _wrong(place: str, value: Any, allowed: str) -> UserError:
    where = place if place == VARIABLE else f'{VARIABLE}: {place}'
    return UserError(f'{where}={_short(repr(value))}: must be {allowed}')


def _short(text: str) -> str:
    return text if len(text) <= 100 else f'{text[:100]}...'
