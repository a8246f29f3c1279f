"""ResNet-152 with the pyramid network of the 17th place of FashionAI 2018, 512 px."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet152',
        head='cpn_17th_place',
        image_size=(512, 512),
    ),
    data=config.DataConfig(batch_size=6),
    loss=config.LossConfig(ohkm=0.5),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=3e-4, weight_decay=0.0),
    epochs=30.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
