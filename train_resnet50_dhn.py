"""ResNet-50 with a deconvolution head, 384 px (Xiao et al. 2018, Simple Baselines)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(backbone='resnet50', head='dhn'),
    data=config.DataConfig(batch_size=10),
    loss=config.LossConfig(sigmas=(2.0,)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    schedule=config.ScheduleConfig(
        decay_epochs=(18.0, 25.0),
        decay_factors=(1.0, 0.1, 0.01),
    ),
    epochs=28.0,
    epochs_per_eval=4.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
