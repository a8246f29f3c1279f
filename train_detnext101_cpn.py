"""DetResNeXt-101 with a Cascaded Pyramid Network, 384 px; four pictures a step."""

import dataclasses

import config
from train_seresnext101_cpn import EXPERIMENT as SERESNEXT101_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    SERESNEXT101_CPN,
    network=config.NetworkConfig(
        backbone='detnext101', head='cpn', backbone_options={'levels': (3, 4, 5, 6)}
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
