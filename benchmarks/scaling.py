"""A training on GPUs, on paper: what GPUs, exchange, host and storage could do, and which limits.

What the host does and the size of the networks are measured; GPUs and links are of data sheets.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from config import UserError

STEP = 3  # a training step has three times the FLOPs of a forward pass
BYTES = 4  # of a float32 gradient
RECORD = 74e3  # bytes, as those of synthetic_data at 512 px; one of the challenge is about so large
STORAGE = 1e9  # bytes/s; a local SSD, or one good connection to a bucket
# Ways of benchmarks.input_pipeline.
_DECODING, _HOST, _DEVICE = 'decoding alone', '--augment_on=host', '--augment_on=device'


class Gpu(NamedTuple):
    """From a data sheet: FLOP/s of dense matrix products, and how a recipe asks for them."""

    name: str
    flops: float
    precision: str


class Place(NamedTuple):
    """Where one trains.

    Attributes:
        name: For people.
        machines: How many.
        gpus: Of each machine.
        cores: Of each machine.
        link: bytes/s that a GPU, or between machines a machine, sends; a data sheet's.
    """

    name: str
    machines: int
    gpus: int
    cores: int
    link: float


class Network(NamedTuple):
    """A recipe as docs/networks.md has it: weights, and FLOPs of a forward pass of a picture."""

    name: str
    parameters: float
    flops: float


class Rates(NamedTuple):
    """What was measured, pictures/s of one core.

    Attributes:
        decoding: Reading and decoding alone.
        host: All of the input of a training.
        device: What the host is left with if the device augments.
        cores: Of the machine of the measurements.
    """

    decoding: float
    host: float
    device: float
    cores: int


GPUS = (
    Gpu('T4', 65e12, 'float16'),
    Gpu('V100', 125e12, 'float16'),
    Gpu('A100', 312e12, 'bfloat16'),
    Gpu('A100, TF32', 156e12, 'float32'),
    Gpu('H100', 989e12, 'bfloat16'),
)
PLACES = (
    Place('one GPU', 1, 1, 12, 0.0),
    Place('eight GPUs', 1, 8, 96, 300e9),  # NVLink of an A100, one way
    Place('eight machines of eight', 8, 8, 96, 12.5e9),  # 100 Gbit/s Ethernet
)


class Limit(NamedTuple):
    """A training somewhere, pictures/s of all machines together.

    Attributes:
        devices: What the GPUs could do, gradients exchanged.
        efficiency: Share of a step that is not spent on exchanging gradients.
        host: What the hosts could prepare.
        storage: What they could read.
        limited_by: The least of these, in words.
    """

    devices: float
    efficiency: float
    host: float
    storage: float
    limited_by: str

    @property
    def rate(self) -> float:
        return min(self.devices, self.host, self.storage)


def limit(
    network: Network, gpu: Gpu, place: Place, host_rate: float, batch_size: int, share: float
) -> Limit:
    """Which part limits a training.

    Args:
        network: What is trained.
        gpu: On which.
        place: How many of them, and beside how many cores.
        host_rate: Pictures/s that one core prepares.
        batch_size: Pictures of a step of one GPU.
        share: Of the data sheet's FLOP/s that a step reaches.
    """
    num_gpus = place.machines * place.gpus
    step = batch_size * STEP * network.flops / (share * gpu.flops)
    # A ring sends each gradient out twice but for the own part. Not overlapped with the step.
    senders = place.machines if place.machines > 1 else place.gpus
    bytes_sent = 2 * (senders - 1) / senders * BYTES * network.parameters
    exchange = bytes_sent / place.link if place.link else 0.0
    devices = num_gpus * batch_size / (step + exchange)
    host = place.machines * place.cores * host_rate
    # Each machine reads all records and decodes its share.
    storage = STORAGE / RECORD
    parts = {'GPUs': devices, 'host': host, 'storage': storage}
    return Limit(devices, step / (step + exchange), host, storage, min(parts, key=parts.get))


def read_rates(path: str) -> Rates:
    """The measured rates of a core, from the JSON of `python -m benchmarks`.

    Raises:
        UserError: The file does not hold them.
    """
    try:
        saved = json.loads(Path(path).read_bytes())
        # As isolated.describe_machine tells them.
        cores = int(re.search(r'(\d+) cores', saved['machine']).group(1))
        ways = saved['parts']['input_pipeline']['tables'][0]['numbers']
        medians = [statistics.median(ways[name]['rates']) for name in (_DECODING, _HOST, _DEVICE)]
        return Rates(*(_positive(median) / _positive(cores) for median in medians), cores)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f'--measurements={path}: holds no training input; make it with '
            f'`python -m benchmarks --output={Path(path).with_suffix(".md")}`'
        ) from error


def _positive(value: float) -> float:
    if not 0 < value < math.inf:
        raise UserError(f'{value} is not a rate')
    return value


def read_networks(path: str, names: Sequence[str]) -> list[Network]:
    """Recipes of the table of `python -m benchmarks.networks`.

    Raises:
        UserError: One is not in it.
    """
    text = Path(path).read_text(errors='replace')
    lines = [line for line in text.splitlines() if line.startswith('| ')]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    rows = {row[0]: dict(zip(cells[0], row)) for row in cells[2:]}
    networks = []
    for name in names:
        try:
            parameters, flops = (
                _positive(float(rows[name][key])) for key in ('parameters, M', 'GFLOPs')
            )
        except (KeyError, ValueError) as error:
            raise UserError(f'--networks={path}: has no numbers of {name}') from error
        networks.append(Network(name, parameters * 1e6, flops * 1e9))
    return networks
