"""What several runs on one table cost together: runs compose, and so does choosing among them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """Epsilons of a sweep at one delta, rounded up; inf where a run had no privacy.

    Args:
      delta: the largest that a run declares.
      num_runs: ledgers that charged anything, whether or not their run finished.
      one: of publishing one run that was chosen without looking at any: the costliest.
      all: of publishing every run.
      best: of publishing the best of a random number of trials, each of which draws one of these
        configurations at random and runs it afresh, and nothing else; see `selection_epsilon`.
      mean_trials, shape: of that random number.
    """

    delta: float
    num_runs: int
    one: float
    all: float
    best: float
    mean_trials: float
    shape: float

    def text(self) -> str:
        """Says it in words."""
        at = f"at delta={self.delta:g}"
        lines = [
            f"Publishing one run, chosen without looking: epsilon={self.one:.4g} {at}.",
            f"Publishing all {self.num_runs} runs: epsilon={self.all:.4g} {at}.",
            f"Publishing the best of a random number of trials (mean {self.mean_trials:g}): "
            f"epsilon={self.best:.4g} {at}, if trials are drawn so.",
            "Publishing the best of this fixed grid, after looking: as much as publishing all.",
        ]
        return "\n".join(lines)


def read_ledger(path: Path) -> Records:
    """Reads the whole lines of a ledger file; a last line that was cut short was never charged."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _events(records: Records) -> list[Any]:
    from dpsynth.privacy.records import event_from_dict

    charged = {record["event"] for record in records if record["kind"] == "charge"}
    planned = records[0]["plan"]["events"]
    return [event_from_dict(event["event"]) for event in planned if event["name"] in charged]


def sweep_cost(
    ledgers: Sequence[Records], *, mean_trials: float | None = None, shape: float = 1.0
) -> SweepCost:
    """Composes the ledgers of runs on one table.

    Formal guarantee: each epsilon bounds what its publication reveals about one unit of the table, under
    adding or removing it, at `delta`. Scores by which the best is chosen must not read the training rows
    without paying: scores on a holdout do not.
    Edge cases: no ledgers -> zeros. A run without privacy -> infinity in every statement it takes part in.

    Args:
      ledgers: records of each run; public.
      mean_trials: of the random number of trials; None takes the number of runs.
      shape: of its distribution, a truncated negative binomial: 1 geometric, 0 logarithmic.
    """
    from dpsynth.privacy.accounting import MIN_DELTA, epsilon
    from dpsynth.privacy.records import spent

    charged = [records for records in ledgers if any(record["kind"] == "charge" for record in records)]
    deltas = [records[0]["plan"]["guarantee"]["delta"] or MIN_DELTA for records in charged]
    delta, mean = max(deltas, default=MIN_DELTA), max(1.0, float(mean_trials or len(charged)))
    events = [_events(records) for records in charged]
    return SweepCost(
        delta=delta,
        num_runs=len(charged),
        one=max((spent(records).pld for records in charged), default=0.0),
        all=epsilon([event for run in events for event in run], delta).pld if charged else 0.0,
        best=selection_epsilon(events, delta, mean_trials=mean, shape=shape) if charged else 0.0,
        mean_trials=mean,
        shape=shape,
    )


def selection_epsilon(
    runs: Sequence[Sequence[Any]], delta: float, *, mean_trials: float, shape: float
) -> float:
    """Returns epsilon of the best of K trials, K from a truncated negative binomial distribution.

    A trial draws one of `runs` at random and shows which; its Renyi curve is at most their pointwise maximum,
    whatever the odds. A failure event happens in one of K trials with E[K] times its probability at most.

    Args:
      runs: the events of each configuration.
      mean_trials: E[K], at least 1.
      shape: eta of the distribution, above -1.
    Source: Papernot & Steinke (2022), Hyperparameter tuning with Renyi differential privacy, Theorem 2.
    """
    from opacus.accountants.analysis import rdp

    from dpsynth.privacy.accounting import SLACK, Ingredients, round_up

    parts = [Ingredients.of(events) for events in runs]
    left = delta - mean_trials * max(part.failure for part in parts)
    if left <= 0.0 or any(part.infinite for part in parts):
        return math.inf
    orders = np.array(_ORDERS)
    single = np.max([_renyi_curve(part, orders) for part in parts], axis=0)
    gamma = negative_binomial_gamma(mean_trials, shape)
    free = (1 + shape) * np.min((1 - 1 / orders) * single - math.log(gamma) / orders)
    curve = single + math.log(mean_trials) / (orders - 1) + free
    found = rdp.get_privacy_spent(orders=list(orders), rdp=curve, delta=left)[0]
    return round_up(float(found) + SLACK)


_ORDERS = (
    [1 + x / 4 for x in range(1, 40)] + [float(x) for x in range(11, 64)] + [2.0**k for k in range(6, 13)]
)


def _renyi_curve(parts: Any, orders: np.ndarray) -> np.ndarray:
    from opacus.accountants.analysis import rdp

    curve = orders * sum(each**2 for each in parts.choices) / 8.0
    steps = dict(parts.sampled)
    if parts.gaussian:
        steps[(1.0, parts.gaussian**-0.5)] = 1
    for (rate, noise_multiplier), count in steps.items():
        found = rdp.compute_rdp(q=rate, noise_multiplier=noise_multiplier, steps=count, orders=list(orders))
        curve = curve + np.where(np.isnan(found), np.inf, found)  # the largest orders overflow
    return curve


def negative_binomial_gamma(mean: float, shape: float) -> float:
    """Returns gamma for which the truncated negative binomial distribution has this mean.

    P(K = k), k >= 1, is proportional to (1 - gamma)**k times the product over l < k of (l + eta) / (l + 1);
    its mean is eta (1 - gamma) / (gamma (1 - gamma**eta)), and (1 / gamma - 1) / log(1 / gamma) for eta = 0.
    """
    if not mean >= 1.0 or not shape > -1.0:
        raise ValueError(f"Expected mean_trials={mean} of at least 1 and shape={shape} above -1.")
    if mean == 1.0:
        return 1.0

    def mean_at(gamma: float) -> float:
        if shape == 0.0:
            return (1 / gamma - 1) / math.log(1 / gamma)
        return shape * (1 - gamma) / (gamma * -math.expm1(shape * math.log(gamma)))

    low, high = 1e-15, 1.0 - 1e-9  # the mean falls from large to 1 as gamma rises
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean_at(middle) > mean else (low, middle)
    return low  # the smaller gamma has the larger log(1 / gamma): against ourselves
