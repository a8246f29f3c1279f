"""Draws the figure that names the 24 points: the outlines of three garments, as SVG.

python demos/name_points.py --output=demos/pictures/points.svg
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

from config import UserError
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.files import write_bytes
from utility.command_line import scripts

_WIDTH, _HEIGHT = 1330, 400
# Points of the left half of each garment, in a frame whose middle is x = 0; those of the right half
# mirror them. Left is what is left in the picture.
_TOP = {
    'neckline': (-45, 40),
    'shoulder': (-115, 62),
    'cuff_out': (-215, 262),
    'cuff_in': (-175, 280),
    'armpit': (-122, 142),
    'waistline': (-112, 232),
    'top_hem': (-122, 340),
}
_SKIRT = {'waistband': (-52, 90), 'hemline': (-98, 320)}
_TROUSERS = {'waistband': (-64, 40), 'bottom_out': (-120, 366), 'bottom_in': (-60, 372)}
_MIDDLE = {'center_front': (0, 92), 'crotch': (0, 156)}
# Names stand outside of the garment, beside their points; these stand below or inside.
_BELOW = {'center_front', 'crotch', 'cuff_left_in', 'cuff_right_in', 'bottom_left_in',
          'bottom_right_in'}  # fmt: skip
_INSIDE = {'armpit', 'waistline'}
_STYLE = (
    'svg{background:#fff;font:13px system-ui,sans-serif}'
    'path{fill:#f2f4f7;stroke:#8a94a0;stroke-width:2;stroke-linejoin:round}'
    'text{fill:#1b1f24;paint-order:stroke;stroke:#fff;stroke-width:3px}.title{font-size:15px;'
    'font-weight:600}'
)


def _name(part: str, side: str) -> str:
    """Return 'cuff_in', 'left' -> 'cuff_left_in', as the data set has it."""
    stem, _, end = part.partition('_')
    return f'{part}_{side}' if end not in ('in', 'out') else f'{stem}_{side}_{end}'


def garments() -> dict[str, tuple[float, dict[str, tuple[float, float]], list[str]]]:
    """Return title -> x of its middle, its points in its frame, and the outline by names."""

    def both(half, middle=()):
        points = {_name(part, 'left'): at for part, at in half.items()}
        points.update({_name(part, 'right'): (-x, y) for part, (x, y) in half.items()})
        return {**points, **{name: _MIDDLE[name] for name in middle}}

    def around(half, middle):
        left = [_name(part, 'left') for part in half]
        return [*left, *[_name(part, 'right') for part in reversed(list(half))], *middle]

    trousers = around(_TROUSERS, [])
    trousers.insert(3, 'crotch')
    return {
        'blouse, dress, outwear': (
            310,
            both(_TOP, ['center_front']),
            around(_TOP, ['center_front']),
        ),
        'skirt': (740, both(_SKIRT), around(_SKIRT, [])),
        'trousers': (1070, both(_TROUSERS, ['crotch']), trousers),
    }


def figure() -> str:
    """Return the SVG."""
    from utility.visualization.draw import keypoint_colors

    colors = dict(zip(SCHEMA.keypoints, keypoint_colors(SCHEMA)))

    parts = []
    for title, (middle, points, outline) in garments().items():
        at = {name: (middle + x, y) for name, (x, y) in points.items()}
        corners = ' L'.join(f'{at[name][0]:g} {at[name][1]:g}' for name in outline)
        parts.append(f'<text class="title" x="{middle}" y="20" text-anchor="middle">{title}</text>')
        parts.append(f'<path d="M{corners} Z"/>')
        for name, (x, y) in at.items():
            color = 'rgb({},{},{})'.format(*colors[name])
            parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="5" fill="{color}"/>')
            if name in _BELOW:
                place, anchor = (x, y + 20), 'middle'
            else:
                words = name.split('_')
                is_left = ('left' in words) != (words[0] in _INSIDE)
                place, anchor = ((x - 9, y + 4), 'end') if is_left else ((x + 9, y + 4), 'start')
            parts.append(
                f'<text x="{place[0]:g}" y="{place[1]:g}" text-anchor="{anchor}">{name}</text>'
            )
    body = '\n'.join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">\n'
        f'<title>The 24 keypoints</title>\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def main(positional: list) -> None:
    scripts.no_positional(positional)
    if not flags.FLAGS.output:
        raise UserError('--output is missing: where the figure goes, an SVG')
    write_bytes(flags.FLAGS.output, figure().encode())
    print(flags.FLAGS.output)


if __name__ == '__main__':
    flags.DEFINE_string('output', None, 'Where the figure goes, an SVG.')
    scripts.run(main, __doc__)
