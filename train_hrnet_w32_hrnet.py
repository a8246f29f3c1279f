"""HRNet-W32, 384 px (Sun et al. 2019, Deep High-Resolution Representation Learning)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='hrnet_w32', head='hrnet', backbone_options={'levels': (2,)}
    ),
    data=config.DataConfig(batch_size=8),
    loss=config.LossConfig(sigmas=(2.0,)),
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
