"""ResNet-18 with a deconvolution head, 256 px: a small network (Xiao et al. 2018)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet18',
        head='dhn',
        image_size=(256, 256),
    ),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=90.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
