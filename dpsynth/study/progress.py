"""A run while it trains: a bar on the terminal, epsilon and losses in the tracker."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dpsynth.data.wording import up

if TYPE_CHECKING:
    from dpsynth.pipeline import Plan
    from dpsynth.privacy.training.progress import Progress
    from dpsynth.tracking import Tracker

_POINTS = 20  # of the epsilon curve; each costs a composition
_LOSSES = 200  # logged losses per run, at most
_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} steps {elapsed}<{remaining}{postfix}"


def epsilon_steps(steps: int, points: int = _POINTS) -> list[int]:
    """Returns the steps after which epsilon is reported: few, evenly spread, the last one among them."""
    return sorted({min(steps, 1), *(round(i * steps / points) for i in range(1, points + 1))})


def epsilon_after(plan: Plan) -> dict[int, float]:
    """Returns epsilon spent after some of the steps, beside the plan's other events; public."""
    constants = plan.training
    if not plan.private or constants is None:
        return {}
    from dpsynth.privacy.accounting.calibration import epsilon_curve

    steps = epsilon_steps(constants.steps)
    curve = epsilon_curve(
        plan.before_training(),
        sample_rate=constants.sample_rate,
        noise_multiplier=constants.noise_multiplier,
        steps=steps,
        delta=plan.guarantee.delta,
    )
    return dict(zip(steps, curve))


class StepLog:
    """Receives the training core's progress; see `Progress`."""

    def __init__(self, tracker: Tracker, bar, curve: dict[int, float]):
        self.tracker, self.bar, self.curve, self._shown = tracker, bar, curve, 0.0

    def __call__(self, progress: Progress) -> None:
        done, total = progress.steps_done, progress.steps
        if self.bar.total != total:
            self.bar.reset(total)
        spent = self.curve.get(done)
        if spent is not None and math.isfinite(spent):
            self.tracker.metric("privacy/epsilon", spent, done)
            self.bar.set_postfix_str(f"epsilon so far {up(spent, 4)}", refresh=False)
        self.bar.update(done - self.bar.n)
        if done % max(1, total // _LOSSES) == 0 or done == total:
            self.tracker.metrics(
                {f"internal/{name}": value for name, value in progress.internal.items()}, done
            )


class _Lines:
    """Turns a bar's redrawing into lines of their own, for jobs that share a terminal, and for log files."""

    _place = ""  # where the bar stood when it was last written

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        place = line.split(" steps")[0]
        if line and place != self._place:
            self._place = place
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def shown(label: str, tracker: Tracker, plan: Plan, *, alone: bool, quiet: bool = False) -> Iterator[StepLog]:
    """Shows a bar for as long as the block lasts, where something is trained.

    Args:
      label: what stands before the bar.
      quiet: show no bar: of trials nobody is to know how many there are.
      alone: no other job writes to the terminal, so the bar may move in place; else it comes line by line.
    """
    from tqdm import tqdm

    start = time.perf_counter()
    in_place = alone and sys.stderr.isatty()
    steps = plan.training.steps if plan.training else None
    every = (
        {"mininterval": 0.1}
        if in_place
        else {"mininterval": 2.0, "maxinterval": math.inf, "miniters": max(1, (steps or 5) // 5)}
    )
    line = tqdm(
        total=steps,
        desc=label,
        disable=quiet or not plan.request.trains,
        file=None if in_place else _Lines(),
        bar_format=_BAR,
        **every,
    )
    try:
        with line:
            yield StepLog(tracker, line, epsilon_after(plan))
    finally:
        tracker.metric("internal/seconds/pipeline", time.perf_counter() - start)
