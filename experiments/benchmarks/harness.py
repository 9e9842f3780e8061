"""Interleaved timing: all contenders take turns, so that a busy moment of the machine hits them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dpsynth.errors import InvalidInput, Problem, nearest

Clock = Literal["cpu", "wall"]
_WARM_UP = 2
# A task either is timed from outside (returns None) or says how many seconds it took (another process).
Task = Callable[[], float | None]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number beside the goal that it should meet.

    Args:
      row: what was measured, for example `tvae_step`.
      name: which variant of it.
      value, low, high: median and quartiles; the quartiles are None for a single measurement.
      unit: `ratio`, `seconds`, `ms`, `MB`.
      goal: bound; None where the number is only for information.
      at_least: whether the goal is a lower bound.
    """

    row: str
    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    goal: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def cells(self) -> list[str]:
        """The figure as a row of the printed table."""
        spread = "" if self.low is None else f"[{_short(self.low)}, {_short(self.high)}]"
        goal = "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {_short(self.goal)}"
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        return [self.row, self.name, f"{_short(self.value)} {self.unit}", spread, goal, verdict]


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def checked_names(asked: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """The rows to measure, in their own order; None means all.

    Raises:
      InvalidInput: lists every unknown row.
    """
    if asked is None:
        return known
    asked = [asked] if isinstance(asked, str) else list(asked)
    unknown = [row for row in asked if row not in known]
    if unknown:
        problems = [Problem(f"rows={row}", "is not measured.", nearest(str(row), known)) for row in unknown]
        raise InvalidInput("The configuration", problems)
    return tuple(row for row in known if row in asked)


def _now(clock: Clock) -> float:
    return time.process_time() if clock == "cpu" else time.perf_counter()


def interleave(tasks: Mapping[str, Task], repeats: int, clock: Clock) -> dict[str, list[float]]:
    """Runs every task once per round, after two rounds to warm up; returns the seconds of each round.

    Args:
      clock: `cpu` counts the processor time of this process, which a busy machine hardly disturbs; `wall`
        counts what a watch would.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    gc.collect()
    for round_ in range(_WARM_UP + repeats):
        for name, task in tasks.items():
            start = _now(clock)
            own = task()
            taken = _now(clock) - start if own is None else own
            if round_ >= _WARM_UP:
                seconds[name].append(taken)
    return seconds


def milliseconds(row: str, name: str, seconds: list[float], per: int = 1) -> Figure:
    """Median time of one of the `per` steps that each round made."""
    low, mid, high = _quartiles([1e3 * s / per for s in seconds])
    return Figure(row=row, name=name, value=mid, low=low, high=high, unit="ms")


def ratio(
    row: str,
    name: str,
    above: list[float],
    below: list[float],
    *,
    goal: float | None = None,
    at_least: bool = False,
) -> Figure:
    """Median over rounds of one contender's time over another's in the same round."""
    low, mid, high = _quartiles([a / b for a, b in zip(above, below)])
    return Figure(
        row=row, name=name, value=mid, low=low, high=high, unit="ratio", goal=goal, at_least=at_least
    )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, mid, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, mid, high
