# shellcheck shell=bash
# What demonstrations do with their arguments: source demos/arguments.sh '[RUN] [FOLDER]' "$@"
# For --help, the comment at the script's beginning; for a flag or an argument too many, one line.
# Leaves $root, the project's folder, and the function `step`, which prints where the script is.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

step() { printf '\n== %s (after %s s)\n' "$1" "$SECONDS"; }

_read_arguments() {
  local names=$1 count problem=
  shift
  count=$(wc -w <<<"$names")
  case "${1:-}" in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
      exit 0
      ;;
    -*) problem="unknown flag $1" ;;
  esac
  if [ "$#" -gt "$count" ]; then
    shift "$count"
    problem="unexpected argument $1"
  fi
  if [ -n "$problem" ]; then
    echo "error: $problem; usage: bash demos/$(basename "$0") $names" >&2
    exit 2
  fi
}

_read_arguments "$@"
