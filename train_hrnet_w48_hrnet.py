"""HRNet-W48, 384 px (Sun et al. 2019, Deep High-Resolution Representation Learning)."""

import dataclasses

from train_hrnet_w32_hrnet import EXPERIMENT as HRNET_W32_HRNET
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    HRNET_W32_HRNET,
    network=dataclasses.replace(HRNET_W32_HRNET.network, backbone='hrnet_w48'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
