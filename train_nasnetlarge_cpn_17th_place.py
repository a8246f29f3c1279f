"""NASNet-A-Large of Keras with the pyramid network of the 17th place of FashionAI 2018, 512 px."""

import dataclasses

from train_inceptionresnetv2_cpn_17th_place import EXPERIMENT as INCEPTIONRESNETV2_CPN_17TH_PLACE
from utility.train import runner

EXPERIMENT = dataclasses.replace(
    INCEPTIONRESNETV2_CPN_17TH_PLACE,
    network=dataclasses.replace(
        INCEPTIONRESNETV2_CPN_17TH_PLACE.network, backbone='keras/NASNetLarge'
    ),
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
