"""SE-ResNeXt-50 32x4d of stride 16 with deconvolutions to half of 384 px (Xiao et al. 2018)."""

import dataclasses

from train_seresnext101_dhn import EXPERIMENT as SERESNEXT101_DHN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    SERESNEXT101_DHN,
    network=dataclasses.replace(SERESNEXT101_DHN.network, backbone='seresnext50_32x4d'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
