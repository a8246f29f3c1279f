#!/usr/bin/env bash
# Makes a page that finds keypoints in the browser, from the quick start's network, and serves it on
# this computer. Usage: bash demos/web.sh [RUN] [FOLDER]
#
# RUN is a trained network (out/resnet18_dhn), FOLDER is where the page goes (out/web). A page that is
# there already is served as it is.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh" '[RUN] [FOLDER]' "$@"
run=${1:-$root/out/resnet18_dhn}
folder=${2:-$root/out/web}
port=${PORT:-8000}
cd "$root"
source demos/environment.sh runtime
if ! python -c 'import onnx, onnxruntime, tf2onnx' 2>/dev/null; then
  echo 'installing requirements-export.lock into .venv'
  python -m pip install --quiet --only-binary=:all: --no-deps -r requirements-export.lock
fi

if [ ! -e "$folder/model.json" ]; then
  if [ ! -e "$run" ]; then
    echo "error: there is no run $run; bash demos/quickstart.sh trains one" >&2
    exit 2
  fi
  python -m utility.export "$run" --format=web --output="$folder"
fi
echo "open http://localhost:$port/ in a browser; Ctrl-C ends the server"
exec python -m http.server "$port" --bind 127.0.0.1 --directory "$folder"
