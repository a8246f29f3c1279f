"""ResNet-50 with a Cascaded Pyramid Network that learns to enlarge its maps, 384 px."""

import dataclasses

from train_resnet50_cpn import EXPERIMENT as RESNET50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET50_CPN,
    network=dataclasses.replace(RESNET50_CPN.network, head='cpn_deconv'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
