"""ResNet-18 with a Cascaded Pyramid Network, 256 px: a small network (Chen et al. 2018)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet18',
        head='cpn',
        image_size=(256, 256),
        head_options={'channels': 128},
    ),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=90.0,
    refine='dark',
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
