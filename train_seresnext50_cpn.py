"""SE-ResNeXt-50 32x4d with a Cascaded Pyramid Network, 384 px."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(backbone='seresnext50_32x4d', head='cpn'),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=28.0,
    refine='dark',
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
