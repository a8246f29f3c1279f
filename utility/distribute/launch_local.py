"""Runs a train script as a cluster of processes on this machine, to try it or on CPUs.

    python -m utility.distribute.launch_local --workers=2 -- train_resnet50_cpn.py --data_dir=DIR
    python -m utility.distribute.launch_local --workers=2 --servers=1 -- train_resnet50_cpn.py ...

The chief and the other workers run in step (--strategy=multi_worker) or, with --servers, at their
own pace (--strategy=parameter_server). When one of them dies, the others wait for it for ever:
they are killed, and all start again from the last checkpoint. For the GPUs of one machine,
--strategy=mirrored needs no launcher.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from absl import flags, logging

from config import MAX_PROCESSES, UserError
from utility.command_line import scripts
from utility.distribute import cluster as clusters
from utility.distribute.cluster import CHIEF, SERVER, WORKER, Cluster

_HOST = '127.0.0.1'
_POLL_SECONDS = 0.2
_MISTAKE = 2  # the exit code of a mistake of the user, which another try repeats
# On Linux a process can ask to be killed when the one that has started it dies.
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None


def make_jobs(workers: int, servers: int) -> dict[str, tuple[str, ...]]:
    """Return a cluster of `workers` and `servers`, on free ports of this machine."""
    sizes = {CHIEF: 1, WORKER: workers - 1, SERVER: servers}
    sockets = [socket.socket() for _ in range(sum(sizes.values()))]
    try:
        for listener in sockets:  # all are held at once, so that each has a port of its own
            listener.bind((_HOST, 0))
        addresses = [f'{_HOST}:{listener.getsockname()[1]}' for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
    jobs = {job: tuple(addresses.pop() for _ in range(size)) for job, size in sizes.items()}
    return {job: job_addresses for job, job_addresses in jobs.items() if job_addresses}


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Process:
    """One process of a cluster. What it prints is passed on, with its name unless it is chief."""

    def __init__(self, command: Sequence[str], cluster: Cluster):
        self.name, self.trains = f'{cluster.job} {cluster.index}', cluster.job != SERVER
        self._child = subprocess.Popen(
            [*command],
            env={**os.environ, clusters.VARIABLE: clusters.to_json(cluster)},
            start_new_session=True,  # a group that can be killed, and is not by Ctrl-C
            preexec_fn=_die_with_parent,
            **(
                {} if cluster.is_chief else {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
            ),
        )
        if not cluster.is_chief:
            threading.Thread(target=self._pass_on, daemon=True).start()

    def poll(self) -> int | None:
        return self._child.poll()

    def kill(self) -> None:
        if self.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def _pass_on(self) -> None:
        for line in self._child.stdout:
            text = line.decode(errors='replace').rstrip()
            print(f'{self.name}: {text}', file=sys.stderr, flush=True)


def run_once(command: Sequence[str], jobs: dict[str, tuple[str, ...]]) -> tuple[str, int] | None:
    """Run a command in every process of a cluster until all that train have ended.

    Returns:
        None if they have succeeded; otherwise who has failed first, and its exit code (-n: killed
        by signal n). None of the processes is left in either case.
    """
    processes: list[_Process] = []
    try:
        for job, addresses in jobs.items():
            for index in range(len(addresses)):
                processes.append(_Process(command, Cluster(jobs, job, index)))
        while True:
            codes = [(process, process.poll()) for process in processes]
            for process, code in codes:
                if code or (code == 0 and not process.trains):
                    return process.name, code
            if all(code == 0 for process, code in codes if process.trains):
                return None
            time.sleep(_POLL_SECONDS)
    finally:
        for process in processes:
            process.kill()


def run(command: Sequence[str], workers: int, servers: int, restarts: int) -> int:
    """Run a command in a cluster, again after a failure; the exit code."""
    for attempt in range(restarts + 1):
        failure = run_once(command, make_jobs(workers, servers))
        if failure is None:
            return 0
        name, code = failure
        logging.warning('%s has ended with %d; the others are killed', name, code)
        if code == _MISTAKE:
            return code
        if attempt < restarts:
            logging.warning('all start again: restart %d of %d', attempt + 1, restarts)
    return 1


def _main(positional: list[str]) -> None:
    values = flags.FLAGS
    if not positional or not os.path.isfile(positional[0]):
        raise UserError('give a train script after --: -- train_resnet50_cpn.py --data_dir=...')
    if values.workers + values.servers < 2:
        raise UserError('--workers=1 without --servers: one process is no cluster')
    strategy = 'parameter_server' if values.servers else 'multi_worker'
    script, *arguments = positional
    command = [sys.executable, script, f'--strategy={strategy}', *arguments]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of `finally`
    sys.exit(run(command, values.workers, values.servers, values.restarts))


def with_dashes(words: Sequence[str]) -> list[str]:
    """Return the command line with '--' before the train script where it was forgotten.

    Without it the flags of the script would be taken for those of the launcher.
    """
    words = list(words)
    scripts_at = [i for i, word in enumerate(words) if i and word.endswith('.py')]
    if '--' in words or not scripts_at:
        return words
    return [*words[: scripts_at[0]], '--', *words[scripts_at[0] :]]


if __name__ == '__main__':
    sys.argv = with_dashes(sys.argv)
    trained = 'Processes that train, the chief included.'
    flags.DEFINE_integer('workers', 2, trained, 1, MAX_PROCESSES)
    flags.DEFINE_integer('servers', 0, 'Parameter servers.', 0, MAX_PROCESSES)
    flags.DEFINE_integer('restarts', 3, 'How often to start again after a death.', lower_bound=0)
    scripts.run(_main, __doc__)
