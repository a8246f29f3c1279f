"""Inception-ResNet-v2 of Keras with the pyramid network of FashionAI's 17th place, 512 px."""

import dataclasses

from train_resnet152_cpn_17th_place import EXPERIMENT as RESNET152_CPN_17TH_PLACE
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET152_CPN_17TH_PLACE,
    network=dataclasses.replace(
        RESNET152_CPN_17TH_PLACE.network,
        backbone='keras/InceptionResNetV2',
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
