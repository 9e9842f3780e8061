"""What the noise that was seen says about epsilon: evidence in the units of the claim.

Noise is measured where it is made: in purchases by their real code path on made-up counts, in training by
gradient canaries. Upper confidence limits of that noise, in place of the planned noise, go through the
ledger's own accountant; the result is the least epsilon that the run can have. It rests on the plan's rates
and steps, which conformance checks, and leaves out what was not tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit.conformance import check_noise
from dpsynth.audit.types import Leak
from dpsynth.data.schema import Boolean, Schema

if TYPE_CHECKING:
    from dpsynth.privacy.noise.entropy import Entropy

_BY_COUNTS = ("count", "columns", "marginals")  # stages whose vectors `Shop.noisy` buys


class _FreeLedger:
    """Stands in for a ledger: the counts are made up, so no one's privacy is spent."""

    def charge(self, name: str) -> None:
        return None

    def finish(self, name: str, digest: str) -> None:
        return None

    def is_finished(self, name: str) -> bool:
        return False


def purchase_noise(
    events: Sequence[Mapping[str, Any]], *, num: int, alpha: float, entropy: Entropy | None = None
) -> tuple[dict[str, float], list[Leak]]:
    """Buys `num` made-up counts per purchase by the code that buys real ones, and looks at the noise.

    Returns (upper limits of the noise as factors of the plan's, by event; purchases with too little noise).

    Args:
      events: as a ledger's plan lists them.
      alpha: chance that one limit is too low.
      entropy: of the run; AES when None.
    """
    from scipy.stats import chi2

    from dpsynth.privacy.measuring.answers import Answers, Shop
    from dpsynth.privacy.noise.entropy import make_entropy

    found = [e for e in events if e["stage"] in _BY_COUNTS and e["event"]["type"] == "gaussian"]
    stddev = {event["name"]: event["noise_multiplier"] * event["sensitivity"] for event in found}
    plan = SimpleNamespace(event=lambda name: SimpleNamespace(noise_stddev=stddev[name], sensitivity=1.0))
    table = SimpleNamespace(schema=Schema(columns=(Boolean(name="made_up"),)), read=lambda receipt: None)
    shop = Shop(table, plan, _FreeLedger(), entropy or make_entropy("aes"), Answers())
    limits, leaks = {}, []
    for name, planned in stddev.items():
        noise = shop.noisy(name, lambda _: np.zeros(num, dtype=np.int64))
        mean_square = float(np.mean(noise**2))
        limits[name] = math.sqrt(num * mean_square / chi2.ppf(alpha, num)) / planned
        leaks += [
            Leak(where=name, rule=leak.rule, detail=leak.detail)
            for leak in check_noise(mean_square, 1, num, planned)
        ]
    return limits, leaks


def epsilon_of(
    events: Sequence[Mapping[str, Any]],
    noise: Mapping[str, float],
    delta: float,
    grid: float | None = None,
) -> float:
    """Returns epsilon at delta of the events whose noise is known, with that noise.

    Formal guarantee: leaving events out never raises epsilon, so with upper limits of the noise this bounds
    the composition from below, up to the accountant's grid (below 1 %).

    Args:
      noise: name of an event -> factor of its planned noise; infinity and missing leave it out.
      grid: of the accountant; None takes one that is fine enough for a figure of its own.
    """
    from dpsynth.privacy.accounting import accountants
    from dpsynth.privacy.accounting.events import event_from_dict

    known = [e for e in events if math.isfinite(noise.get(e["name"], math.inf))]
    parts = accountants.Ingredients.of(
        event_from_dict(with_noise(event["event"], noise[event["name"]])) for event in known
    )
    if parts.empty:
        return 0.0
    if grid is None:
        found = accountants.pld_epsilon(parts, delta)
    else:
        found = accountants.compose(parts, grid).get_epsilon_for_delta(delta)
    return math.floor(found * 1e4) / 1e4


def with_noise(event: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Returns an event of a ledger with every noise multiplier scaled; failures and choices are left out."""
    kind = event["type"]
    if kind == "gaussian":
        return {**event, "noise_multiplier": event["noise_multiplier"] * factor}
    if kind in ("poisson_sampled", "self_composed"):
        return {**event, "event": with_noise(event["event"], factor)}
    if kind == "composed":
        parts = [with_noise(part, factor) for part in event["events"]]
        return {**event, "events": parts}
    return {"type": "composed", "events": []}
