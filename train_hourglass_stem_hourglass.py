"""Four stacked hourglasses, 384 px (Newell et al. 2016, Stacked Hourglass Networks)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='hourglass_stem', head='hourglass', head_options={'stacks': 4}
    ),
    data=config.DataConfig(batch_size=6),
    loss=config.LossConfig(sigmas=(2.0,), weights=(0.6, 0.6, 0.6, 1.0)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=2.5e-4, weight_decay=0.0),
    schedule=config.ScheduleConfig(
        decay_epochs=(20.0, 30.0),
        decay_factors=(1.0, 0.5, 0.1),
    ),
    epochs=40.0,
    epochs_per_eval=5.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
