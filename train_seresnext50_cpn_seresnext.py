"""SE-ResNeXt-50 with a Cascaded Pyramid Network that refines with SE-ResNeXt blocks, 384 px."""

import dataclasses

from train_seresnext50_cpn import EXPERIMENT as SERESNEXT50_CPN
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    SERESNEXT50_CPN,
    network=dataclasses.replace(SERESNEXT50_CPN.network, head='cpn_seresnext'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
