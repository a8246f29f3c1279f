"""Eight stacked hourglasses, 256 px (Newell et al. 2016, Stacked Hourglass Networks)."""

import dataclasses

import config
from train_hourglass_stem_hourglass import EXPERIMENT as HOURGLASS_STEM_HOURGLASS
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    HOURGLASS_STEM_HOURGLASS,
    network=config.NetworkConfig(
        backbone='hourglass_stem',
        head='hourglass',
        image_size=(256, 256),
        head_options={'stacks': 8},
    ),
    loss=config.LossConfig(),  # all stacks weigh alike
    epochs=50.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
