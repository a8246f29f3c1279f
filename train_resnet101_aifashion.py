"""ResNet-101 up to stride 16 with AiFashion's global net and two refine stacks, 512 px."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet101',
        head='aifashion',
        image_size=(512, 512),
        heatmap_size=(256, 256),
        backbone_options={'levels': (1, 2, 3, 4)},
    ),
    data=config.DataConfig(batch_size=3),
    loss=config.LossConfig(sigmas=(4.0,), ohkm=0.5),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=1e-4, weight_decay=0.0),
    schedule=config.ScheduleConfig(decay_epochs=(20.0, 26.0)),
    epochs=30.0,
    epochs_per_eval=3.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
