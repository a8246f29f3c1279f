#!/usr/bin/env bash
# Trains on a folder of annotated pictures what this machine can train in the time given, scores it
# on held-out ones, and draws these. Usage: bash demos/train_on_yours.sh DATA [MINUTES] [--flag...]
#
# DATA is what convert_tfrecords.py reads. The flags are those of demos/train_on_yours.py.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
words=()
for name in data_dir minutes; do
  if [[ ${1:-} && ${1:-} != --* ]]; then
    words+=("--$name=$1")
    shift
  fi
done
source "$root/demos/environment.sh" runtime
exec python "$root/demos/train_on_yours.py" ${words[@]+"${words[@]}"} "$@"
