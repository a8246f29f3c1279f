"""ResNet-50 that classifies coordinates, 256 px (Li et al. 2022, SimCC)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet50', head='simcc', image_size=(256, 256), heatmap_stride=1
    ),
    data=config.DataConfig(batch_size=16),
    loss=config.LossConfig(kind='cross_entropy', sigma_shares=(1 / 64,)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=5e-4, weight_decay=0.0),
    epochs=30.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
