"""HRNet-W32, 384 px (Sun et al. 2019, Deep High-Resolution Representation Learning)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='hrnet_w32', head='hrnet', backbone_options={'levels': (2,)}
    ),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=5e-4, weight_decay=0.0),
    epochs=30.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
