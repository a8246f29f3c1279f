"""SENet-154 with the pyramid network of the 17th place of FashionAI 2018, 512 px."""

import dataclasses

from train_resnet152_cpn_17th_place import EXPERIMENT as RESNET152_CPN_17TH_PLACE
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    RESNET152_CPN_17TH_PLACE,
    network=dataclasses.replace(RESNET152_CPN_17TH_PLACE.network, backbone='senet154'),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
