"""SE-ResNeXt-101 32x4d with a Cascaded Pyramid Network, 384 px; four pictures a step."""

import dataclasses

import config
from train_resnet50_cpn import EXPERIMENT as RESNET50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET50_CPN,
    network=config.NetworkConfig(backbone='seresnext101_32x4d', head='cpn'),
    data=config.DataConfig(batch_size=4),
    optimizer=dataclasses.replace(RESNET50_CPN.optimizer, learning_rate=2e-4),
    epochs=25.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
