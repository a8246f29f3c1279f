#!/usr/bin/env bash
# From synthetic pictures in the layout of DeepFashion2, with several garments each, to predictions in
# the format of COCO: all 294 points. The network is tiny and is trained for a few steps only: the
# demonstration shows the way, not points worth having.
#
#   bash demos/deepfashion2.sh [OUT]          # OUT is where all of it goes, out/deepfashion2 by default
#
# With the real data set DATA in place of the pictures: --data_dir=DATA, and a recipe as it is.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh" '[OUT]' "$@"
mkdir -p "${1:-$root/out/deepfashion2}"
out=$(cd "${1:-$root/out/deepfashion2}" && pwd)
cd "$root"

step 'environment'
source demos/environment.sh runtime

step 'draw pictures with several garments'
python demos/make_garments.py --layout=deepfashion2 --output_dir="$out/data" --count=240 \
  --test_count=40 --size=160

step 'convert them to records: one for each garment, with its box'
python convert_tfrecords.py --dataset=deepfashion2 --data_dir="$out/data" --records_dir="$out/records"

step 'train on the boxes'
python train_resnet18_dhn.py --data_dir="$out/records" --model_dir="$out/run" --category=all \
  --set network.image_size=96,96 --set network.backbone_options.width=16 \
  --set network.head_options.channels=32 --set data.batch_size=16 --set epochs=4 \
  --set evaluations=1 --set optimizer.learning_rate=3e-3 --log_every=20

step 'score the garments for validation'
python eval_metrics.py --data_dir="$out/records/val" --model_dir="$out/run" \
  --output_json="$out/scores.json" >"$out/scores.txt"
sed -n '1,/^$/p' "$out/scores.txt"

step 'write the predictions as COCO results and as COCO annotations'
for format in coco_results coco; do
  rm -rf "$out/$format"
  python eval_submission.py --data_dir="$out/records/val" --model_dir="$out/run" \
    --output_format="$format" --output_dir="$out/$format"
done

step 'done'
cat <<END
Records        $out/records
Scores         $out/scores.txt, $out/scores.json
COCO           $out/coco_results/results.json, $out/coco/annotations.json
END
