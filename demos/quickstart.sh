#!/usr/bin/env bash
# From nothing to an ensembled submission: environment, synthetic garments, records, two small
# networks, their scores, submissions and pictures. Usage: bash demos/quickstart.sh [OUT]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "${1:-$root/out}"
out=$(cd "${1:-$root/out}" && pwd)
cd "$root"
source demos/environment.sh runtime

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step 'draw synthetic garments'
python demos/make_garments.py --output_dir="$out/garments" --count=1500 --test_count=250 \
  --size=256 --contact_sheet="$out/garments.jpg"

step 'convert them to records'
records=$out/records
python convert_tfrecords.py --data_dir="$out/garments" --records_dir="$records" --val_fraction=0.1

train() { # network, then settings
  local network=$1
  shift
  step "train $network"
  python "train_$network.py" --data_dir="$records" --model_dir="$out/$network" --category=all "$@"
}

evaluate() { # network
  step "score and predict with $1"
  python eval_submission.py --data_dir="$records/test_0" --model_dir="$out/$1" --flip_test \
    --output_csv="$out/$1_sub.csv"
  python eval_metrics.py --prediction="$out/$1_sub.csv" --answers="$out/garments/answers/test_0.csv" \
    --output_json="$out/$1.json" | tee "$out/$1.txt"
}

small=(--set network.image_size=128,128 --set network.heatmap_size=32,32)
train resnet18_dhn "${small[@]}"
train resnet18_cpn "${small[@]}"
evaluate resnet18_dhn
evaluate resnet18_cpn

step 'ensemble the two submissions'
python ensemble_from_csv.py "$out/resnet18_dhn_sub.csv" "$out/resnet18_cpn_sub.csv" \
  --output_csv="$out/ensemble.csv"
python eval_metrics.py --prediction="$out/ensemble.csv" \
  --answers="$out/garments/answers/test_0.csv" --output_json="$out/ensemble.json" \
  | tee "$out/ensemble.txt"

step 'draw predicted points'
python demos/draw_keypoints.py --model_dir="$out/resnet18_cpn" --data_dir="$records/val" \
  --output_dir="$out"
