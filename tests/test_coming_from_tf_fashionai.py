"""Who comes from tf.fashionAI finds each of its scripts, flags and names of networks."""

from __future__ import annotations

import re

import pytest

from tests.commands import ROOT

PAGE = (ROOT / 'docs' / 'coming_from_tf_fashionai.md').read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith('| ')]
SCRIPTS = """
config.py convert_tfrecords.py ensemble_from_csv.py eval_all_cpn_onepass.py eval_all_cpn_simple.py
eval_hg_subnet.py inspect_checkpoint.py preprocessing/dataset_inspect.py get_dataset_mean_std.py
run_local_mertric.py swa_train_cpn.py train_cpn_onebyone.py train_detnet_cpn_onebyone.py
train_detxt_cpn_onebyone.py train_hg_onebyone.py train_hg_seqnet.py train_hg_subnet.py
train_large_xt_cpn_onebyone.py train_senet_cpn_onebyone.py train_simplenet_onebyone.py
"""
FLAGS = """
backbone batch_size bbox_border cat checkpoint_exclude_scopes checkpoint_model_scope checkpoint_path
cloud_checkpoint_path data_dir data_format dataset_name dataset_split_name decay_boundaries
dummy_train end_learning_rate epochs_per_eval feats_channals flip_on_test gpu_memory_fraction gt
heatmap_sigma heatmap_size ignore_missing_vars learning_rate log_every_n_steps lr_decay_factors
model_dir model_scope model_to_eval model_to_train momentum mse_weight multi_gpu net_depth
num_cpu_threads num_modules num_preprocessing_threads num_readers num_stacks prediction run_on_cloud
save_checkpoints_secs save_checkpoints_steps save_summary_steps seq_train tf_random_seed
train_epochs train_image_size use_ohkm warmup_learning_rate warmup_steps weight_decay xt_batch_size
"""
NETWORKS = """
resnet50_cpn detnet50_cpn seresnet50_cpn seresnext50_cpn detnext50_cpn large_seresnext_cpn
large_detnext_cpn simple_net head_seresnext50_cpn head_detnext50_cpn seresnet50 seresnext50 sext
detxt
"""
CALLS = """
tf.estimator.Estimator tf.layers.conv2d tf.contrib.layers.xavier_initializer
tf.image.resize_bilinear tf.contrib.image.transform tf.contrib.lookup.HashTable TFExampleDecoder
tf.py_func tf.losses.mean_squared_error tf.train.MomentumOptimizer tf_replicate_model_fn
tf.app.flags scipy.misc.imread ExponentialMovingAverage
"""
NAMES = [
    *SCRIPTS.split(), *NETWORKS.split(), *CALLS.split(), *(f'--{flag}' for flag in FLAGS.split())
]  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_each_name_has_a_row_with_an_answer(name):
    rows = [
        row for row in ROWS if re.search(rf'`{re.escape(name)}(?![\w/])', row.rsplit(' | ', 1)[0])
    ]
    assert rows
    assert all(len(row.rsplit(' | ', 1)[1].strip(' |')) > 2 for row in rows)
