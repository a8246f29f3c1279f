"""ResNet-50 that classifies coordinates, 256 px (Li et al. 2022, SimCC)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet50', head='simcc', image_size=(256, 256), heatmap_size=(256, 256)
    ),
    data=config.DataConfig(batch_size=16),
    loss=config.LossConfig(kind='cross_entropy', sigmas=(4.0,)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=5e-4, weight_decay=0.0),
    schedule=config.ScheduleConfig(
        decay_epochs=(20.0, 26.0),
        decay_factors=(1.0, 0.1, 0.01),
    ),
    epochs=30.0,
    epochs_per_eval=3.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
