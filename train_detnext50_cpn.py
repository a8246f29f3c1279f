"""DetResNeXt-50 with a Cascaded Pyramid Network over strides 16, 16, 16 and 8, 384 px."""

import dataclasses

from train_detnet50_cpn import EXPERIMENT as DETNET50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    DETNET50_CPN,
    network=dataclasses.replace(DETNET50_CPN.network, backbone='detnext50'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
