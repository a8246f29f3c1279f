"""DetNet-59 with a Cascaded Pyramid Network over strides 16, 16, 16 and 8, 384 px."""

import dataclasses

import config
from train_resnet50_cpn import EXPERIMENT as RESNET50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET50_CPN,
    network=config.NetworkConfig(
        backbone='detnet59', head='cpn', backbone_options={'levels': (3, 4, 5, 6)}
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
