"""What the commands are made of. This file is the first that each of them imports.

It imports the standard library only, so that a command can say what to do where nothing else is
installed, and ends without a traceback where Ctrl-C comes before its work has begun.
"""

import importlib.util
import pathlib
import signal
import sys

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_PYTHONS = (3, 9), (3, 11)  # that TensorFlow 2.15 has wheels for
_SHOWN = 3  # names in a message
# The modules of requirements.txt.
REQUIRED = (
    'absl',
    'cv2',
    'google',  # protobuf, of TensorFlow
    'h5py',
    'jinja2',
    'matplotlib',
    'ml_dtypes',
    'numpy',
    'optuna',
    'pandas',
    'PIL',
    'safetensors',
    'scipy',
    'simplejpeg',
    'tensorflow',
    'tensorflow_addons',
    'tqdm',
)


def _is_command() -> bool:
    """Return whether Python runs a script or module of this project, not one that imports it."""
    main = getattr(sys.modules['__main__'], '__file__', None)
    if sys.argv[:1] == ['-m']:  # a module that is still being looked for
        return pathlib.Path.cwd() == _ROOT
    return main is not None and pathlib.Path(main).resolve().parent in (_ROOT, _ROOT / 'demos')


def what_lacks(modules=REQUIRED) -> str:
    """Return what of the modules is not installed, and what to do about it; '' if nothing lacks."""
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if not lacking:
        return ''
    low, high = ('.'.join(map(str, version)) for version in _PYTHONS)
    venv = _ROOT / '.venv'
    is_active = pathlib.Path(sys.prefix).resolve() == venv.resolve()
    is_made = (venv / 'bin' / 'activate').exists() and not is_active
    activate = f'source {venv}/bin/activate'
    install = '' if is_made else f'bash {_ROOT}/demos/environment.sh runtime && '
    names = ', '.join(lacking[:_SHOWN]) + (', ...' if len(lacking) > _SHOWN else '')
    text = f'{names} not installed for {sys.executable}; run: {install}{activate}'
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        text += f' (Python {low} to {high} is needed)'
    return text


if _is_command():
    # Until command_line.scripts.run takes over, an interrupt ends the process without a word.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if what_lacks():
        print(f'error: {what_lacks()}', file=sys.stderr)
        sys.exit(2)
