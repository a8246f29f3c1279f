"""SE-ResNeXt-101 32x4d of stride 16 with deconvolutions to half of 384 px (Xiao et al. 2018)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='seresnext101_32x4d',
        head='dhn',
        heatmap_stride=2,
        backbone_options={'output_stride': 16},
    ),
    data=config.DataConfig(batch_size=8),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=5e-4, weight_decay=0.0),
    epochs=30.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
