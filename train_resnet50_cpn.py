"""ResNet-50 with a Cascaded Pyramid Network, 384 px (Chen et al. 2018, CPN)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(backbone='resnet50', head='cpn'),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=28.0,
    refine='dark',
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
