"""EfficientNet-Lite0 with a deconvolution head, 192 px, for two CPU cores or a phone, from
published weights: --init_checkpoint=efficientnet_lite0 (Tan and Le 2019; Xiao et al. 2018)."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='efficientnet_lite0',
        head='dhn',
        image_size=(192, 192),
        backbone_options={'batch_norm_momentum': 0.9},  # trainings of few steps need it
        head_options={'channels': 128},
    ),
    data=config.DataConfig(batch_size=16),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-3, weight_decay=0.0),
    epochs=30.0,
    evaluations=6,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
