"""SE-ResNeXt-50 with a Cascaded Pyramid Network that refines with SE-ResNeXt blocks, 384 px."""

import dataclasses

import config
from train_resnet50_cpn import EXPERIMENT as RESNET50_CPN
from utility import runner

EXPERIMENT = dataclasses.replace(
    RESNET50_CPN,
    network=config.NetworkConfig(backbone='seresnext50_32x4d', head='cpn_seresnext'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
