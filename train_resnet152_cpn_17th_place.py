"""ResNet-152 with the pyramid network of the 17th place of FashionAI 2018, 512 px."""

import config
from utility.train import runner

EXPERIMENT = config.Experiment(
    network=config.NetworkConfig(
        backbone='resnet152',
        head='cpn_17th_place',
        image_size=(512, 512),
        heatmap_size=(128, 128),
    ),
    data=config.DataConfig(batch_size=6),
    loss=config.LossConfig(sigmas=(4.0, 2.5), ohkm=0.5),
    optimizer=config.OptimizerConfig(name='adam', learning_rate=3e-4, weight_decay=0.0),
    schedule=config.ScheduleConfig(
        decay_epochs=(18.0, 25.0),
        decay_factors=(1.0, 0.1, 0.01),
    ),
    epochs=30.0,
    epochs_per_eval=3.0,
)

if __name__ == '__main__':
    runner.train_main(EXPERIMENT)
