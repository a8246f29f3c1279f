"""What the processes of a cluster tell each other, in the folder of the network that they share.

The chief alone evaluates, and may end the training for what it finds. The others wait for its
word at every stop, in `FOLDER/agreement.json`: {"step": 120, "reasons": []}.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable

from absl import logging

from preprocessing import files
from utility.checkpoints.variables import has_checkpoint
from utility.distribute.cluster import SERVER, Cluster

FILE = 'agreement.json'
_SECONDS = 1.0  # between two looks


@dataclasses.dataclass(frozen=True)
class EarlyStopSignal:
    """How this process goes along with the others; one that is alone agrees with itself.

    Attributes:
        folder: Of the network.
        cluster: The processes; None: this one alone.
    """

    folder: str
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.cluster is None or self.cluster.is_chief

    def await_turn(self) -> None:
        """Wait until the chief has put weights on the parameter servers, if there are such.

        TensorFlow would wait as well, but looks only twice a minute.
        """
        if not self.is_chief and SERVER in self.cluster.jobs:
            while not has_checkpoint(self.folder):
                time.sleep(_SECONDS)

    def forget_after(self, step: int) -> None:
        """Take back the word of a later step: the training goes on from an earlier checkpoint."""
        import tensorflow as tf

        if self.cluster and self.is_chief and self._decision()[0] > step:
            tf.io.gfile.remove(os.path.join(self.folder, FILE))

    def settle(self, step: int, judge: Callable[[], list[str]]) -> list[str]:
        """Return why the training is to end at a step, if it is.

        Args:
            step: That all have reached.
            judge: Finds it out; the chief calls it, the others wait for what it found.
        """
        if self.is_chief:
            reasons = judge()
            if self.cluster:
                text = json.dumps({'step': step, 'reasons': reasons})
                files.write_bytes(os.path.join(self.folder, FILE), text.encode(), True)
            return reasons
        decided, reasons = self._decision()
        while decided < step:
            time.sleep(_SECONDS)
            decided, reasons = self._decision()
        return reasons

    def remove_copies(self) -> None:
        """Remove what the Estimator makes a process write that is not the chief."""

        if not self.is_chief:
            copies = os.path.join(self.folder, f'tmp_{self.cluster.job}_{self.cluster.index}')
            if files.exists(copies):
                files.remove_tree(copies)

    def _decision(self) -> tuple[int, list[str]]:
        """Return the last step that the chief has decided at, -1 if none, and its reasons."""

        path = os.path.join(self.folder, FILE)
        if not files.exists(path):
            return -1, []
        try:
            values = json.loads(files.read_bytes(path))
            return int(values['step']), list(values['reasons'])
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Where a rename is not atomic it is just being replaced: the next look tells.
            logging.warning('%s cannot be read yet: %s', path, error)
            return -1, []
