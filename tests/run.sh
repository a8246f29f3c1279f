#!/usr/bin/env bash
# Runs the tests in .venv, which it makes if needed: bash tests/run.sh [--parity] [arguments of pytest]
# Those marked slow are left out: `-m slow` runs them alone, `-m ""` runs all but parity.
# --parity runs instead those that compare with PyTorch's networks. PyTorch and timm are installed for
# that, in .venv/parity (1 GB); they need Python 3.10 or 3.11.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source demos/environment.sh dev

marks='not slow'
if [ "${1:-}" = --parity ]; then
  shift
  marks=parity
  parity=$VIRTUAL_ENV/parity
  if ! cmp -s requirements-parity.txt "$parity/.installed"; then
    echo "installing requirements-parity.txt into $parity"
    python -m venv --clear "$parity"
    "$parity/bin/python" -m pip install --quiet --only-binary=:all: --no-deps -r requirements-parity.txt
    cp requirements-parity.txt "$parity/.installed"
  fi
  export PARITY_PYTHON=$parity/bin/python
fi
exec python -m pytest -m "$marks" --durations=10 "$@"
