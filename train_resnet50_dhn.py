"""ResNet-50 with a deconvolution head, 384 px (Xiao et al. 2018, Simple Baselines)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(backbone='resnet50', head='dhn'),
    data=config.DataConfig(batch_size=10),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=28.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
