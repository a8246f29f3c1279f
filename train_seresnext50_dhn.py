"""SE-ResNeXt-50 32x4d of stride 16 with deconvolutions to half of 384 px (Xiao et al. 2018)."""

import dataclasses

import config
from train_seresnext101_dhn import EXPERIMENT as SERESNEXT101_DHN
from utility import runner

EXPERIMENT = dataclasses.replace(
    SERESNEXT101_DHN,
    network=config.NetworkConfig(
        backbone='seresnext50_32x4d',
        head='dhn',
        heatmap_size=(192, 192),
        backbone_options={'output_stride': 16},
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
