"""ResNet-18 with a Cascaded Pyramid Network, 256 px: a small network (Chen et al. 2018)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet18',
        head='cpn',
        image_size=(256, 256),
        heatmap_size=(64, 64),
        head_options={'channels': 128},
    ),
    data=config.DataConfig(batch_size=16),
    loss=config.LossConfig(sigmas=(2.5, 2.0, 1.5, 1.5, 1.5)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    schedule=config.ScheduleConfig(
        decay_epochs=(60.0, 80.0),
        decay_factors=(1.0, 0.2, 0.04),
    ),
    epochs=90.0,
    epochs_per_eval=10.0,
    refine='dark',
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
