"""What several runs on one table cost together: runs compose, and so does choosing among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpsynth.data.wording import up

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
        configurations at random, runs it afresh and has a paid score, and nothing else; see
        `selection_epsilon`.
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
        at = f"at delta={up(self.delta)}"
        lines = [
            f"Publishing one run, chosen without looking: epsilon={up(self.one, 4)} {at}.",
            f"Publishing all {self.num_runs} runs: epsilon={up(self.all, 4)} {at}.",
            f"Publishing the best of a random number of trials (mean {self.mean_trials:g}): "
            f"epsilon={up(self.best, 4)} {at}, if trials are drawn so (sweep.selection=private).",
            "Publishing the best of this fixed grid, after looking at its figures: not covered. They were "
            "computed on private rows without paying, and the choice tells of them.",
        ]
        return "\n".join(lines)


def _events(records: Records) -> list[Any]:
    from dpsynth.privacy.accounting.events import event_from_dict

    charged = {record["event"] for record in records if record["kind"] == "charge"}
    planned = records[0]["plan"]["events"]
    return [event_from_dict(event["event"]) for event in planned if event["name"] in charged]


def sweep_cost(
    ledgers: Sequence[Records], *, mean_trials: float | None = None, shape: float = 1.0
) -> SweepCost:
    """Composes the ledgers of runs on one table.

    Formal guarantee: each epsilon bounds what its publication reveals about one unit of the table, under
    adding or removing it, at `delta`. None of them covers a choice made after looking at unpaid figures,
    whether on training or on holdout rows.
    Edge cases: no ledgers -> zeros. A run without privacy -> infinity in every statement it takes part in.

    Args:
      ledgers: records of each run; public.
      mean_trials: of the random number of trials; None takes the number of runs.
      shape: of its distribution, a truncated negative binomial: 1 geometric, 0 logarithmic.
    """
    from dp_accounting import dp_event

    from dpsynth.privacy.accounting.accountants import MIN_DELTA, epsilon
    from dpsynth.privacy.accounting.selection import Trials, selection_epsilon
    from dpsynth.privacy.ledger.lines import spent
    from dpsynth.privacy.many_runs.selection import score_noise

    charged = [records for records in ledgers if any(record["kind"] == "charge" for record in records)]
    deltas = [records[0]["plan"]["guarantee"]["delta"] or MIN_DELTA for records in charged]
    delta, mean = max(deltas, default=MIN_DELTA), max(1.0, float(mean_trials or len(charged)))
    events = [_events(records) for records in charged]
    costs = [spent(records).pld for records in charged]
    budgets = [
        records[0]["plan"]["guarantee"].get("epsilon") or cost for records, cost in zip(charged, costs)
    ]
    finite = [budget for budget in budgets if math.isfinite(budget)]
    scores = [[dp_event.GaussianDpEvent(score_noise(budget, delta))] for budget in finite]
    return SweepCost(
        delta=delta,
        num_runs=len(charged),
        one=max(costs, default=0.0),
        all=epsilon([event for run in events for event in run], delta).pld if charged else 0.0,
        best=selection_epsilon([*events, *scores], delta, Trials(mean=mean, shape=shape)) if charged else 0.0,
        mean_trials=mean,
        shape=shape,
    )
