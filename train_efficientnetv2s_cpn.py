"""EfficientNetV2-S of Keras (Tan and Le 2021) with a Cascaded Pyramid Network, 384 px."""

import dataclasses

from train_resnet50_cpn import EXPERIMENT as RESNET50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET50_CPN,
    network=dataclasses.replace(
        RESNET50_CPN.network,
        backbone='keras/EfficientNetV2S',
        mean=(128.0, 128.0, 128.0),
        std=(128.0, 128.0, 128.0),
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
