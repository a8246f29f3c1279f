"""What `pip install .` runs: it tells how this project is installed, and installs nothing."""

import sys

_ANSWER = (
    'This project is not a package: its commands are run from its folder. To install what they '
    'need, run: bash demos/environment.sh runtime && source .venv/bin/activate'
)


def _refuse(*_, **__):
    print(f'error: {_ANSWER}', file=sys.stderr)
    sys.exit(2)


# The hooks of PEP 517 that pip may call first.
get_requires_for_build_wheel = get_requires_for_build_editable = _refuse
prepare_metadata_for_build_wheel = prepare_metadata_for_build_editable = _refuse
build_wheel = build_editable = build_sdist = _refuse
