"""Where training is, in epochs and batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpsynth.privacy.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ProgressInfo:
    """Where training is: counts from 0, as `progress_callback` gets it."""

    epoch: int
    total_epochs: int
    batch: int
    total_batches: int


ProgressCallback = Callable[[ProgressInfo], None]


def by_epochs(callback: ProgressCallback, sample_rate: float) -> Callable[[Progress], None]:
    """Tells a callback of epochs and batches what private training tells of steps.

    Args:
      sample_rate: public; an epoch has 1 / sample_rate batches, whatever the number of units.
    """
    batches = max(1, round(1 / sample_rate))

    def tell(progress: Progress) -> None:
        epoch, batch = divmod(progress.steps_done - 1, batches)
        epochs = math.ceil(progress.steps / batches)
        callback(ProgressInfo(epoch=epoch, total_epochs=epochs, batch=batch, total_batches=batches))

    return tell
