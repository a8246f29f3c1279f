"""One GPU, eight GPUs, eight machines: which part would limit a training, on paper.

python -m benchmarks.scaling_model [--measurements=docs/measurements_speed.json]
                                   [--networks=docs/networks.md] [--output=docs/scaling.md]

What the host does and the size of the networks are measured; GPUs and links are data sheets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import ledger, scaling
from benchmarks.scaling import BYTES, GPUS, PLACES, STEP, Network, Rates
from utility.command_line import scripts

RECIPES = ('resnet18_dhn', 'resnet50_cpn', 'seresnext101_cpn', 'senet154_cpn_17th_place')
_WORKED_GPUS = ('V100', 'A100', 'H100')
_SAVED = 3  # variables of a checkpoint for each weight: itself and the two slots of Adam
_DISK = 0.2e9  # bytes/s; to write checkpoints
_TOLD = ('measurements', 'networks', 'batch_size', 'share', 'output')  # flags
_NUM_TRAIN, _NUM_VALIDATION = 40_000, 10_000  # pictures
_NUM_CHALLENGE = 64_131  # annotated pictures of 2018, train_0 to train_3
_ABOUT = """# One GPU, eight GPUs, eight machines: on paper

Made by `{command}`. **Nothing here was run on a
GPU.** What the host does was measured ({measurements}) and so was the size of the networks
([networks.md](networks.md)); FLOP/s and links are from data sheets; that a step reaches {share:.0%}
of a data sheet is a guess (`--share`). So the page tells what to look at first, and not how fast it
will be; `--profile_input` and the `waiting` of the training's log tell that.

One core reads and decodes {decoding:.0f} pictures of 512 px a second. It prepares {host:.0f} a
second for training at 384 px; with the augmentation on the device (`--augment_on=device`),
{device:.0f}. These are shares of what {cores} cores did, and taken to grow with their number.

With batches of b pictures ({batch_size}) on each of G GPUs of M machines:

- **a step** takes b · 3 F / (u P): F FLOPs of a forward pass of a picture, P those of the data
  sheet, u the share that is reached;
- **exchanging gradients** takes 2 (n - 1) / n · 4 bytes · weights / link: a ring of n GPUs or,
  between machines, of n machines; counted as if nothing of it were hidden behind the step;
- **GPUs could** train G b / (step + exchange) pictures a second;
- **the host could** prepare M · cores · those of a core;
- **storage could** give {storage:g} GB/s / {record:.0f} kB: each machine reads all records and
  decodes its share.
"""
_CORES = """
## Cores that keep one GPU busy

Augmentation on the host / on the device. What the device does for it is not counted: a warp and its
colours read and write a few floats for each of 384 x 384 pixels, some ten megabytes in all, where
the memory of such a GPU moves hundreds of gigabytes a second.
"""
_WORKED = """
## Which part limits

Pictures a second of all machines together. Where the host limits, take more cores, the device
for augmenting, or pictures that are scaled down when they are converted. Storage limits because
each machine reads everything; the {challenge:.0f} GB of the whole challenge are in memory after
the first epoch where they are on a local disk, and are read again in each where they are in a
bucket. Where little of a step computes, take larger batches.
"""
_ONCE = """
## What comes once in a while

Checkpoints hold weights and two slots of Adam, and are written at {disk:g} GB/s by one machine
while the others wait; evaluation is of {validation:,} pictures, without flip, and on one GPU in any
place. What the Estimator adds each time, a new graph and session, is in the page of measurements
under start-up. With an evaluation each epoch of {train:,} pictures, evaluating takes {one:.0%} of
the time on one GPU and, since the others wait, {eight:.0%} on eight GPUs: evaluate less often there
(`--set epochs_per_eval`).
"""


def page(rates: Rates, networks: Sequence[Network], values: Mapping[str, Any], command: str) -> str:
    """The page, Markdown; `values` are those of the flags, `command` is what it is made by."""
    batch_size, share = values['batch_size'], values['share']
    about = _ABOUT.format(
        command=command,
        **rates._asdict(),
        batch_size=batch_size,
        share=share,
        record=scaling.RECORD / 1e3,
        storage=scaling.STORAGE / 1e9,
        measurements=values['measurements'],
    )
    sheets = ledger.markdown_table(
        ('GPU', 'precision', 'TFLOP/s'),
        [(g.name, g.precision, f'{g.flops / 1e12:g}') for g in GPUS],
    )
    places = ledger.markdown_table(
        ('place', 'machines', 'GPUs of each', 'cores of each', 'link, GB/s'),
        [(p.name, str(p.machines), str(p.gpus), str(p.cores), f'{p.link / 1e9:g}') for p in PLACES],
    )  # fmt: skip
    header = (
        'network', 'GPU', 'place', 'GPUs could', 'share of a step that computes', 'host could',
        'host could, device augments', 'storage could', 'limited by', 'with the device augmenting',
    )  # fmt: skip
    table = ledger.markdown_table(header, _rows(rates, networks, batch_size, share))
    once = ledger.markdown_table(
        ('network', 'checkpoint, MB', 'writing it, s', 'exchanged in a step, MB',
         *(f'evaluation on one {gpu.name}, s' for gpu in GPUS)),
        [_once(network, share) for network in networks],
    )  # fmt: skip
    cores = ledger.markdown_table(
        ('network', *(f'{gpu.name}' for gpu in GPUS)),
        [_cores(network, rates, share) for network in networks],
    )
    worked = _WORKED.format(challenge=_NUM_CHALLENGE * scaling.RECORD / 1e9)
    seldom = _ONCE.format(
        disk=_DISK / 1e9,
        validation=_NUM_VALIDATION,
        train=_NUM_TRAIN,
        one=_share_of_evaluation(1),
        eight=_share_of_evaluation(8),
    )
    parts = (about, '## Data sheets\n', sheets, places, _CORES, cores, worked, table, seldom, once)
    return '\n'.join(parts)


def _share_of_evaluation(num_gpus: int) -> float:
    """Of an epoch and the evaluation after it, in time; exchanging gradients is not counted."""
    return _NUM_VALIDATION / (_NUM_VALIDATION + STEP * _NUM_TRAIN / num_gpus)


def _rows(rates: Rates, networks, batch_size: int, share: float) -> Iterator[Sequence[str]]:
    for network in networks:
        for gpu in (one for one in GPUS if one.name in _WORKED_GPUS):
            for place in PLACES:
                on_host, on_device = (
                    scaling.limit(network, gpu, place, rate, batch_size, share)
                    for rate in (rates.host, rates.device)
                )
                yield (
                    network.name, gpu.name, place.name, f'{on_host.devices:,.0f}',
                    f'{on_host.efficiency:.0%}', f'{on_host.host:,.0f}', f'{on_device.host:,.0f}',
                    f'{on_host.storage:,.0f}', f'{on_host.limited_by} ({on_host.rate:,.0f})',
                    f'{on_device.limited_by} ({on_device.rate:,.0f})',
                )  # fmt: skip


def _cores(network: Network, rates: Rates, share: float) -> Sequence[str]:
    """Cores that keep one GPU busy, with the augmentation on the host and on the device."""
    wanted = [share * gpu.flops / (STEP * network.flops) for gpu in GPUS]
    return (network.name, *(f'{w / rates.host:.1f} / {w / rates.device:.1f}' for w in wanted))


def _once(network: Network, share: float) -> Sequence[str]:
    saved = _SAVED * BYTES * network.parameters
    evaluations = [_NUM_VALIDATION * network.flops / (share * gpu.flops) for gpu in GPUS]
    exchanged = 2 * BYTES * network.parameters / 1e6
    return (
        network.name, f'{saved / 1e6:.0f}', f'{saved / _DISK:.1f}', f'{exchanged:.0f}',
        *(f'{seconds:.0f}' for seconds in evaluations),
    )  # fmt: skip


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    rates = scaling.read_rates(values.measurements)
    networks = scaling.read_networks(values.networks, RECIPES)
    message = ledger.command('python -m benchmarks.scaling_model', _TOLD, values)
    ledger.publish(page(rates, networks, values.flag_values_dict(), message), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('measurements', 'docs/measurements_speed.json', 'Numbers of the host.')
    flags.DEFINE_string('networks', 'docs/networks.md', 'Table of the networks.')
    flags.DEFINE_integer('batch_size', 16, 'Pictures of a step of one GPU.', lower_bound=1)
    flags.DEFINE_float(
        'share', 0.35, "Of the data sheet's FLOP/s that is reached: a guess.", 0.01, 1
    )
    ledger.define_output('Markdown file for the page, too.')
    scripts.run(main, __doc__)
