# shellcheck shell=bash
# Makes .venv in the project's root from the locked requirements, and puts its Python first on PATH.
#
#   bash demos/environment.sh runtime && source .venv/bin/activate     # what the project needs to run
#   bash demos/environment.sh dev && source .venv/bin/activate         # and what its tests need
#
# In a bash script one line does both: source demos/environment.sh runtime.
# A second call takes a moment: .venv/.installed holds the hashes of what is installed. A .venv whose
# making was interrupted, or that has no suitable Python, is made anew. PYTHON=/path/to/python says
# which interpreter to use. Where there is none: a message, and exit 2.

_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_venv=$_root/.venv

_make_environment() {
  local lock locks
  case "${1:-}" in
    runtime) locks=(requirements.lock) ;;
    dev) locks=(requirements.lock requirements-dev.lock) ;;
    *)
      echo "error: demos/environment.sh: give 'runtime' or 'dev', not '${1:-}'" >&2
      exit 2
      ;;
  esac
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  if [ -e "$_venv/.installing" ] || ! _is_usable "$_venv/bin/python" || _is_other_python; then
    _make_venv
  fi
  for lock in "${locks[@]}"; do
    _install "$lock"
  done
}

# Succeeds if the interpreter runs, is of a version that TensorFlow 2.15 has wheels for, and can make
# a virtual environment (on Debian the last needs a package of its own). Silent: a pyenv shim of a
# version that is not active exists, and fails.
_is_usable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' \
    >/dev/null 2>&1
}

# Succeeds if PYTHON asks for another version than .venv has.
_is_other_python() {
  [ -n "${PYTHON:-}" ] && [ "$("$PYTHON" -V 2>&1)" != "$("$_venv/bin/python" -V 2>&1)" ]
}

_candidates() {
  if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; else
    printf '%s\n' python3.11 python3.10 python3.9 python3 python
  fi
}

# Prints the path of the interpreter itself: a name may lead into the .venv that is to be replaced.
_find_python() {
  local name
  while read -r name; do
    if _is_usable "$name" </dev/null; then
      "$name" -c 'import os, sys; print(os.path.realpath(sys.executable))' </dev/null
      return
    fi
  done < <(_candidates)
  return 1
}

_explain_python() {
  local name found
  echo 'error: no suitable Python. Needed is 3.9, 3.10 or 3.11 with the venv module, because'
  echo 'TensorFlow 2.15, the last with tf.estimator, has wheels for no other. Looked at:'
  while read -r name; do
    found=$("$name" - 2>/dev/null <<'END'
import sys
try:
    import venv, ensurepip
    lack = ''
except ImportError:
    lack = ', without the venv module'
print('%d.%d at %s%s' % (sys.version_info[0], sys.version_info[1], sys.executable, lack))
END
    ) || found='not there, or does not run'
    echo "  $name: $found"
  done < <(_candidates)
  cat <<'END'
To get one:
  Debian, Ubuntu   apt-get install python3 python3-venv   (where python3 is 3.9 to 3.11)
  Ubuntu           add-apt-repository ppa:deadsnakes/ppa && apt-get install python3.11 python3.11-venv
  conda            conda create -n python311 python=3.11 && conda activate python311
  pyenv            pyenv install 3.11 && pyenv shell 3.11
  macOS            brew install python@3.11
Then run this again, or say where it is: PYTHON=/path/to/python3.11 bash ...
END
}

_make_venv() {
  local python
  if ! python=$(_find_python); then
    _explain_python >&2
    exit 2
  fi
  echo "making $_venv with $("$python" -V 2>&1)"
  rm -rf "$_venv"
  mkdir "$_venv" && touch "$_venv/.installing" && "$python" -m venv "$_venv" || exit 1
  rm "$_venv/.installing"
}

# Installs one lock file, unless that is done already. Wheels only: nothing is compiled, and no
# package runs code of its own while it is installed.
_install() {
  local lock=$1 python=$_venv/bin/python stamp=$_venv/.installed hash quiet=--quiet
  hash=$("$python" - "$_root/$lock" <<'END'
import hashlib, sys
print(hashlib.sha256(sys.version.encode() + open(sys.argv[1], 'rb').read()).hexdigest())
END
  ) || exit 1
  if grep -qsx "$lock $hash" "$stamp"; then return; fi
  if [ -t 1 ]; then quiet=--no-input; fi
  echo "installing $lock into $_venv"
  touch "$_venv/.installing"
  # A .venv made by another tool than venv may have no pip.
  "$python" -m pip -V >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null || exit 1
  "$python" -m pip install "$quiet" --only-binary=:all: -r "$_root/$lock" || exit 1
  {
    grep -sv "^$lock " "$stamp"
    echo "$lock $hash"
  } >"$stamp.part"
  mv "$stamp.part" "$stamp" && rm "$_venv/.installing"
}

# Two scripts at once take turns, where there is flock (macOS has none).
(
  if command -v flock >/dev/null; then flock 9; fi
  _make_environment "$@"
) 9<"$_root/demos/environment.sh" || exit
export VIRTUAL_ENV=$_venv PATH=$_venv/bin:$PATH
if [ "${BASH_SOURCE[0]}" = "$0" ]; then echo "in this shell, run: source $_venv/bin/activate"; fi
