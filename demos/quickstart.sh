#!/usr/bin/env bash
# From nothing to an ensembled submission: environment, synthetic garments, records, two small
# networks, their scores, submissions and pictures, in five to six minutes on two idle cores.
#
#   bash demos/quickstart.sh [OUT]          # OUT is where all of it goes, out if it is left out
#
# Run again with the same OUT, it keeps what is trained already. Python 3.9, 3.10 or 3.11 is needed:
# PYTHON=/path/to/python3.11 says which. To install only: bash demos/environment.sh runtime
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh" '[OUT]' "$@"
mkdir -p "${1:-$root/out}"
out=$(cd "${1:-$root/out}" && pwd)
cd "$root"

step 'environment'
source demos/environment.sh runtime

garments=$out/garments
records=$out/records
answers=$garments/answers/test_0.csv
networks=(resnet18_dhn resnet18_cpn)
# Weaker augmentation than for real pictures: a few minutes of training see each garment few times.
ops='flip|rotate(15)|crop_keep(min_area=0.4)|letterbox({height},{width})|warp'
ops+='|color(brightness=0.1,contrast=0.3,saturation=0.3,hue=0.05)'
common=(
  --set "data.train_ops=$ops"
  --set network.backbone_options.width=32
  --set network.head_options.channels=48
  --set loss.points=annotated
  --set data.batch_size=16
  --set optimizer.learning_rate=3e-3
  --set evaluations=1
  --log_every=100
)
settings_of_resnet18_dhn=(
  --set network.image_size=192,192 --set loss.sigmas=1.25 --set epochs=14
)
settings_of_resnet18_cpn=(
  --set network.image_size=128,128 --set loss.sigmas=2,1.5,1.25,1.25,1.25
  --set epochs=9
)

step 'draw synthetic garments'
python demos/make_garments.py --output_dir="$garments" --count=2000 --test_count=250 --size=256 \
  --contact_sheet="$out/garments.jpg"

step 'convert them to records'
python convert_tfrecords.py --data_dir="$garments" --records_dir="$records" --val_fraction=0.1

for network in "${networks[@]}"; do
  step "train $network"
  declare -n settings=settings_of_$network
  python "train_$network.py" --data_dir="$records" --model_dir="$out/$network" --category=all \
    "${common[@]}" "${settings[@]}"
done

score() { # name of a submission in OUT
  python eval_metrics.py --prediction="$out/$1.csv" --answers="$answers" \
    --output_json="$out/$1.json" >"$out/$1.txt"
}

for network in "${networks[@]}"; do
  step "predict and score with $network"
  python eval_submission.py --data_dir="$records/test_0" --model_dir="$out/$network" --flip_test \
    --passes=2 --output_csv="$out/$network.csv"
  score "$network"
done

step 'ensemble the submissions'
python ensemble_from_csv.py "$out/resnet18_dhn.csv" "$out/resnet18_cpn.csv" --output_csv="$out/ensemble.csv"
score ensemble

step 'draw predicted points'
python demos/draw_keypoints.py --model_dir="$out/resnet18_cpn" --data_dir="$records/val" \
  --passes=2 --output_dir="$out"

step 'done'
echo 'NE on held-out garments, percent of the normaliser, and the number of points:'
for name in "${networks[@]}" ensemble; do
  printf '%-14s%9s%9s\n' "$name" $(awk '/^all/ {print $2, $3}' "$out/$name.txt")
done
cat <<END
Tables of scores   $out/{resnet18_dhn,resnet18_cpn,ensemble}.txt, and .json
Submissions        $out/{resnet18_dhn,resnet18_cpn,ensemble}.csv
Pictures           $out/garments.jpg: annotated garments; $out/keypoints.jpg: predicted points
Curves             .venv/bin/tensorboard --logdir=$out
END
