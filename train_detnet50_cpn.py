"""DetNet-59 with a Cascaded Pyramid Network over strides 16, 16, 16 and 8, 384 px."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='detnet59', head='cpn', backbone_options={'levels': (3, 4, 5, 6)}
    ),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=28.0,
    refine='dark',
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
