"""SE-ResNeXt-101 32x4d of stride 16 with deconvolutions to half of 384 px (Xiao et al. 2018)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='seresnext101_32x4d',
        head='dhn',
        heatmap_size=(192, 192),
        backbone_options={'output_stride': 16},
    ),
    data=config.DataConfig(batch_size=8),
    loss=config.LossConfig(sigmas=(4.0,)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=5e-4, weight_decay=0.0),
    schedule=config.ScheduleConfig(
        decay_epochs=(15.0, 20.0, 28.0),
        decay_factors=(1.0, 0.5, 0.1, 0.01),
    ),
    epochs=30.0,
    epochs_per_eval=5.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
