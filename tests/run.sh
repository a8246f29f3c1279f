#!/usr/bin/env bash
# Runs the tests in .venv, which it makes if needed: bash tests/run.sh [arguments of pytest]
# Those marked slow are left out: `-m slow` runs them alone, `-m ""` runs all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source demos/environment.sh dev
exec python -m pytest -m 'not slow' --durations=10 "$@"
