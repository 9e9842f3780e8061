"""What runs cost in forms that add up: composed over days, each declared after the last."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpsynth.data.wording import up


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run costs, in forms that add up. Public.

    Args:
      epsilon, delta: the run's claim; epsilon None for a run without privacy.
      curve: its Renyi curve at `selection.ORDERS`, inf where it has none.
      failure: probability of its failure events.
    """

    epsilon: float | None
    delta: float
    curve: tuple[float, ...] = ()
    failure: float = 0.0

    def dump(self) -> str:
        curve = [value if math.isfinite(value) else None for value in self.curve]
        return json.dumps({**vars(self), "curve": curve}, sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Cost:
        plain = json.loads(text)
        curve = tuple(math.inf if value is None else value for value in plain.pop("curve"))
        return cls(curve=curve, **plain)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent on one table.

    Args:
      epsilon: of publishing everything that private runs made, at `delta`.
      num_runs: private runs (a selection counts as one).
      num_open: runs without privacy, of which nothing may leave; they are in no sum.
    """

    epsilon: float
    delta: float
    num_runs: int
    num_open: int

    def text(self) -> str:
        more = f" Nothing of {self.num_open} runs without privacy may leave." if self.num_open else ""
        return (
            f"Spent on this table so far: epsilon={up(self.epsilon, 4)} at delta={up(self.delta)}, "
            f"over {self.num_runs} {'run' if self.num_runs == 1 else 'runs'}.{more}"
        )


def total(costs: Sequence[Cost], delta: float) -> float:
    """Composes the costs of runs on one table.

    Formal guarantee: an upper bound on the epsilon, at `delta`, of publishing all of them, where each may
    depend on the results of those before it. The smaller of two bounds: the sum of their epsilons, if their
    deltas add up to at most `delta`; their Renyi curves, added.
    Edge cases: no runs -> 0; deltas that leave nothing -> infinity.
    Source: Dwork & Roth (2014), Theorem 3.16; Mironov (2017), Proposition 1.
    """
    from opacus.accountants.analysis import rdp

    from dpsynth.privacy.accounting.accountants import SLACK, round_up
    from dpsynth.privacy.accounting.selection import ORDERS

    if not costs:
        return 0.0
    basic = sum(cost.epsilon for cost in costs)
    if sum(cost.delta for cost in costs) > delta * (1 + 1e-9):
        basic = math.inf
    left = delta - sum(cost.failure for cost in costs)
    if left <= 0.0:
        return basic
    curve = [sum(values) for values in zip(*(cost.curve for cost in costs))]
    usable = [(order, value) for order, value in zip(ORDERS, curve) if math.isfinite(value)]
    if not usable:
        return basic
    orders, values = zip(*usable)
    found = rdp.get_privacy_spent(orders=list(orders), rdp=list(values), delta=left)[0]
    return min(basic, round_up(float(found) + SLACK))


def run_cost(events: Sequence[Any], epsilon: float | None, delta: float) -> Cost:
    """Returns what a run with these planned events costs.

    Args:
      epsilon: the run's claim; None without privacy.
    """
    from dpsynth.privacy.accounting.accountants import Ingredients
    from dpsynth.privacy.accounting.selection import ORDERS, renyi_curve

    if epsilon is None:
        return Cost(epsilon=None, delta=0.0)
    parts = Ingredients.of(events)
    curve = tuple(float(value) for value in renyi_curve(parts, ORDERS))
    return Cost(epsilon=epsilon, delta=delta, curve=curve, failure=parts.failure)
