"""SE-ResNet-50 with a Cascaded Pyramid Network, 384 px; as train_resnet50_cpn.py else."""

import dataclasses

from train_resnet50_cpn import EXPERIMENT as RESNET50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET50_CPN,
    network=dataclasses.replace(RESNET50_CPN.network, backbone='seresnet50'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
