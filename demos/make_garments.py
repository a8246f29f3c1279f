"""Draws a data set of synthetic garments with exact keypoints, in FashionAI's 2018 layout.

    python demos/make_garments.py --output_dir=OUT --count=300 [--test_count=60] [--size=256]
                                  [--seed=0] [--num_workers=N] [--contact_sheet=SHEET.jpg]

Writes OUT/train_0, OUT/test_0 (without answers) and OUT/answers/test_0.csv. With
--layout=deepfashion2 or coco pictures have several garments, boxes and DeepFashion2's points, and
those of the test are for validation. A picture depends on seed, split, number and size only; run
again after an interruption, it gives the same files.
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

from config import MAX_PROCESSES, MAX_SIDE, UserError
from utility.command_line import scripts

_PLAIN_LINES = 10  # of progress where there is no terminal


def _define_flags() -> None:
    flags.DEFINE_string('output_dir', None, 'Where the data set goes.')
    flags.DEFINE_enum(
        'layout', 'fashionai', ['fashionai', 'deepfashion2', 'coco'], 'Of the data set.'
    )
    flags.DEFINE_integer('count', 300, 'Training pictures, all categories.', lower_bound=1)
    flags.DEFINE_integer('test_count', 60, 'Test pictures, all categories.', lower_bound=0)
    flags.DEFINE_integer('size', 256, 'Longest side of a picture, px.', upper_bound=MAX_SIDE)
    flags.DEFINE_integer('seed', 0, 'Another seed, another data set.', lower_bound=0)
    flags.DEFINE_integer(
        'num_workers', os.cpu_count() or 1, 'Processes that draw.', 1, MAX_PROCESSES
    )
    flags.DEFINE_string('contact_sheet', None, 'Also draw the first 40 with points, to this file.')


class _Progress:
    """A bar on a terminal, plain lines otherwise."""

    def __init__(self, total: int):
        import tqdm

        self._total = total
        self._bar = tqdm.tqdm(total=total, unit=' pictures') if sys.stderr.isatty() else None

    def __call__(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if done == self._total:
                self._bar.close()
        elif done * _PLAIN_LINES // self._total > (done - 1) * _PLAIN_LINES // self._total:
            print(f'{done} of {self._total} pictures', flush=True)


def main(positional: list) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not values.output_dir:
        raise UserError('--output_dir is missing: where shall the data set go?')
    if values.contact_sheet and values.layout != 'fashionai':
        raise UserError('--contact_sheet is for --layout=fashionai only')
    from demos.garments import dataset, several
    from utility.visualization import draw

    counts = {dataset.TRAIN: values.count, dataset.TEST: values.test_count}
    garments = dataset.GarmentSet(values.seed, values.size, counts)
    total = sum(counts.values())
    start = time.monotonic()
    last = values.num_workers, _Progress(total)
    if values.layout == 'fashionai':
        dataset.write_dataset(values.output_dir, garments, *last)
    else:
        several.write_dataset(values.output_dir, values.layout, garments, *last)
    seconds = time.monotonic() - start
    print(f'{values.output_dir}: {total} pictures in {seconds:.1f} s, {total / seconds:.1f}/s')
    if values.contact_sheet:
        sheet = dataset.draw_sheet(garments, min(40, values.count))
        draw.write_image(values.contact_sheet, sheet)
        print(values.contact_sheet)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
