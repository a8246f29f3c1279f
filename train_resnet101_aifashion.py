"""ResNet-101 up to stride 16 with AiFashion's global net and two refine stacks, 512 px."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet101',
        head='aifashion',
        image_size=(512, 512),
        heatmap_stride=2,
        backbone_options={'levels': (1, 2, 3, 4)},
    ),
    data=config.DataConfig(batch_size=3),
    loss=config.LossConfig(sigma_shares=(1 / 64,), ohkm=0.5),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-4, weight_decay=0.0),
    epochs=30.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
