"""Four stacked hourglasses, 384 px (Newell et al. 2016, Stacked Hourglass Networks)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='hourglass_stem', head='hourglass', head_options={'stacks': 4}
    ),
    data=config.DataConfig(batch_size=6),
    loss=config.LossConfig(weights=(0.6, 0.6, 0.6, 1.0)),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=2.5e-4, weight_decay=0.0),
    epochs=40.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
