"""SENet-154 with the pyramid network of the 17th place of FashionAI 2018, 512 px."""

import dataclasses

import config
from train_resnet152_cpn_17th_place import EXPERIMENT as RESNET152_CPN_17TH_PLACE
from utility import runner

EXPERIMENT = dataclasses.replace(
    RESNET152_CPN_17TH_PLACE,
    network=config.NetworkConfig(
        backbone='senet154',
        head='cpn_17th_place',
        image_size=(512, 512),
        heatmap_size=(128, 128),
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
