"""Networks of timm, and what they make of a picture.

Runs where PyTorch and timm are installed. tests/nets/test_parity.py runs `python timm_networks.py
FOLDER`: each of NETWORKS with random weights, to FOLDER/NAME.pth, FOLDER/NAME.safetensors and
FOLDER/NAME.npz: 'picture' [1, H, W, 3] in 0..255, and the feature maps 'C1', 'C2', ... in NHWC.

tests/utility/pretrained/test_published.py runs `python timm_networks.py FOLDER NAME=FILE ...`:
timm's EfficientNet-Lite NAME with the weights of FILE, whose tensors have other names in the same
order; of each FOLDER/NAME.npz, with 'last_conv' and 'logits' besides, and FOLDER/NAME.safetensors.
"""

from __future__ import annotations

import pathlib
import sys

# Height and width in px; not equal, so that they cannot be confused.
SIZE = (96, 64)
# Layers whose outputs are feature maps, by level.
_RESNET = {'C1': 'act1', 'C2': 'layer1', 'C3': 'layer2', 'C4': 'layer3', 'C5': 'layer4'}
_LEGACY = {**_RESNET, 'C1': 'layer0'}
_LITE = {'C1': 'blocks.0', 'C2': 'blocks.1', 'C3': 'blocks.2', 'C4': 'blocks.4', 'C5': 'blocks.6'}
NETWORKS = {
    'resnet18': _RESNET,
    'resnet50': _RESNET,
    'legacy_seresnet50': _LEGACY,
    'legacy_seresnext50_32x4d': _LEGACY,
    'legacy_senet154': _LEGACY,
    'seresnet50': _RESNET,
    'seresnext50_32x4d': _RESNET,
    'hrnet_w32': {'C': 'stage4'},
    'tf_efficientnet_lite0': _LITE,
}
# Google's, in 0..255; timm rounds them to 127.5 and 127.5.
_LITE_MEAN, _LITE_STD = 127.0, 128.0


def _timm_models():
    """Return timm.models, as the benchmark beside PyTorch has them."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / 'benchmarks' / 'speed'))
    import pytorch_networks

    return pytorch_networks.import_timm_models()


def _randomise(model, generator) -> None:
    """Weights of no special value: batch norm's scales and statistics too."""
    import torch

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith('running_var') or (name.endswith('weight') and tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(('running_mean', 'bias')):
                tensor.normal_(0.0, 0.1, generator=generator)


def _features(model, levels: dict[str, str], images) -> dict:
    """Return name -> NumPy array, NHWC; the maps of an output that is a list are numbered from
    2.
    """
    import torch

    found = {}

    def keep(key):
        def hook(module, inputs, output):
            outputs = {key: output}
            if isinstance(output, list):
                outputs = {f'{key}{n}': part for n, part in enumerate(output, start=2)}
            # What follows may change a tensor in place.
            for n, part in outputs.items():
                cells_last = part.permute(0, 2, 3, 1) if part.ndim == 4 else part
                found[n] = cells_last.numpy().copy()

        return hook

    for key, name in levels.items():
        model.get_submodule(name).register_forward_hook(keep(key))
    with torch.no_grad():
        model(images)
    return found


def _standardised(model, name: str, picture):
    """Return [1, H, W, 3] in 0..255 -> [1, 3, H, W], as the network was trained."""
    import torch

    if 'efficientnet_lite' in name:
        images = (picture - _LITE_MEAN) / _LITE_STD
    else:
        mean, std = (torch.tensor(model.default_cfg[key]) for key in ('mean', 'std'))
        images = (picture / 255 - mean) / std
    return images.permute(0, 3, 1, 2)


def _write(folder: str, name: str, model, levels: dict[str, str], picture) -> None:
    import numpy as np
    import safetensors.torch

    path = pathlib.Path(folder, name)
    safetensors.torch.save_file(model.state_dict(), path.with_suffix('.safetensors'))
    features = _features(model, levels, _standardised(model, name, picture))
    np.savez(path.with_suffix('.npz'), picture=picture, **features)


def write_random(folder: str) -> None:
    import torch

    models = _timm_models()
    generator = torch.Generator().manual_seed(1)
    for name, levels in NETWORKS.items():
        torch.manual_seed(1)
        model = getattr(models, name)().eval()
        _randomise(model, generator)
        torch.save(model.state_dict(), pathlib.Path(folder, f'{name}.pth'))
        picture = torch.rand((1, *SIZE, 3), generator=generator) * 255
        _write(folder, name, model, levels, picture)


def write_published(folder: str, name: str, file: str) -> None:
    import torch

    model = getattr(_timm_models(), f'tf_{name}')().eval()
    own, stored = model.state_dict(), torch.load(file, weights_only=True)
    if [t.shape for t in own.values()] != [t.shape for t in stored.values()]:
        raise ValueError(f'{file}: its tensors are not those of {name}, in this order')
    model.load_state_dict(dict(zip(own, stored.values())))
    picture = torch.rand((1, *SIZE, 3), generator=torch.Generator().manual_seed(1)) * 255
    _write(folder, name, model, {**_LITE, 'last_conv': 'bn2', 'logits': 'classifier'}, picture)


def main(folder: str, *published: str) -> None:
    import torch

    torch.set_num_threads(1)
    if not published:
        write_random(folder)
    for name_and_file in published:
        write_published(folder, *name_and_file.split('=', 1))


if __name__ == '__main__':
    main(*sys.argv[1:])
