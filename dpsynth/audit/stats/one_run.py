"""Audits in one training run: many canaries, each included by its own fair coin.

Guesses are fixed before the coins are looked at: so many highest scores are called members, so many lowest
non-members, the rest abstain. The numbers are part of the plan, never chosen on the scores: picking the
best of them after the fact turns a nominal 5 % into more than 40 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import log, log1p

import numpy as np
from scipy.stats import binom

from dpsynth.audit.stats.bounds import Bound
from dpsynth.audit.stats.tradeoff import TradeOff, gaussian


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """Result of guessing: `correct` of `made` guesses over `num_canaries` canaries."""

    correct: int
    made: int
    num_canaries: int


def guess(
    scores: np.ndarray, included: np.ndarray, num_in: int, num_out: int, rng: np.random.Generator
) -> Guesses:
    """Calls the `num_in` highest scores members and the `num_out` lowest not; `rng` breaks ties."""
    scores, included = np.asarray(scores, float), np.asarray(included, bool)
    if not 0 < num_in + num_out <= len(scores):
        raise ValueError(f"Expected num_in={num_in} + num_out={num_out} in [1, {len(scores)}].")
    order = np.lexsort((rng.random(len(scores)), scores))
    correct = int(included[order[len(order) - num_in :]].sum() + (~included[order[:num_out]]).sum())
    return Guesses(correct=correct, made=num_in + num_out, num_canaries=len(scores))


def steinke_p(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Returns the p-value of `the mechanism is (epsilon, delta)-DP`.

    Formal guarantee: valid for independent fair coins and any dependence between scores.
    Source: Steinke, Nasr and Jagielski (2023), theorem 5.2 and appendix D.
    """
    tail = binom.sf(np.arange(-1, guesses.correct), guesses.made, 1 / (1 + np.exp(-epsilon)))
    at = tail[guesses.correct]
    steps = np.arange(1, guesses.correct + 1)
    gain = np.max((tail[guesses.correct - steps] - at) / steps, initial=0.0)
    return float(min(1.0, at + 2 * guesses.num_canaries * delta * gain))


def eps_steinke(guesses: Guesses, *, delta: float, alpha: float = 0.05) -> Bound:
    """Bounds epsilon from below by inverting `steinke_p`."""

    def value(of: Guesses) -> float:
        return _largest(lambda e: steinke_p(of, e, delta) <= alpha, 50.0)

    best = Guesses(correct=guesses.made, made=guesses.made, num_canaries=guesses.num_canaries)
    return Bound(value=value(guesses), ceiling=value(best), alpha=alpha)


def f_dp_rejects(guesses: Guesses, f: TradeOff, alpha: float = 0.05) -> bool:
    """Tells whether this many correct guesses had probability at most `alpha` under `f`-DP.

    Runs the recursion of the paper over numbers of correct guesses, downwards: r and h are the masses of
    correct and wrong guesses at or above i, linked by the inverse blow-up function of f (the least mass an
    event can have in the other world). If the masses exceed one, so many correct guesses are that rare.

    Formal guarantee: valid for independent fair coins, under either direction of an asymmetric curve.
    Source: Mahloujifar, Melis and Chaudhuri (2025), theorem 6 and algorithm 3.
    """
    shrink = _inverse_blow_up(f)
    correct, made, share = guesses.correct, guesses.made, guesses.made / guesses.num_canaries
    if 2 * correct <= made:
        return False
    r, h = alpha * share * correct / made, alpha * share * (made - correct) / made
    for i in range(correct - 1, -1, -1):
        lower = max(h, shrink(r))
        r, h = r + i / (made - i) * (lower - h), lower
        if r + h > share:
            return True
    return False


@lru_cache(maxsize=512)
def _inverse_blow_up(f: TradeOff) -> Callable[[float], float]:
    """Returns y -> the least mass in one world of an event with mass y in the other, from a table.

    Interpolates a table that is even in log odds (steps of 0.02), lowered by more than the error of doing
    so: a smaller mass makes the test more lenient.
    """
    mass = 1 / (1 + np.exp(-np.linspace(-40.0, 40.0, 4001)))
    # In one world mass y, in the other at least alpha(1 - y) or beta(1 - y), whichever world is which.
    least = np.minimum(f.alpha(1 - mass), f.beta(1 - mass))
    least = (np.maximum.accumulate(np.maximum(least, 0.0)) * (1 - 2e-4)).tolist()

    def shrink(y: float) -> float:
        if y >= 1.0:
            return 1.0
        at = (log(y) - log1p(-y) + 40.0) * 50.0 if y > 1e-17 else 0.0
        floor = int(at)
        if not 0 < floor < 4000:
            return 0.0 if floor <= 0 else least[4000]
        return least[floor] + (at - floor) * (least[floor + 1] - least[floor])

    return shrink


@lru_cache(maxsize=4096)
def one_run_p(guesses: Guesses, f: TradeOff) -> float:
    """Returns the p-value of `the mechanism satisfies f` by bisection on `f_dp_rejects`, rounded up."""
    if not f_dp_rejects(guesses, f, 1.0 - 1e-9):
        return 1.0
    low, high = -40.0, 0.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if f_dp_rejects(guesses, f, float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def eps_f_dp(
    guesses: Guesses,
    *,
    delta: float,
    alpha: float = 0.05,
    family: Callable[[float], TradeOff] = gaussian,
    top: float = 40.0,
) -> Bound:
    """Bounds epsilon(delta) by the strongest member of a family of curves that the guesses reject.

    Args:
      family: parameter (larger is less private) -> curve; GDP by default, and the bound says so.
    """

    def value(of: Guesses) -> float:
        if binom.sf(of.correct - 1, of.made, 0.5) > alpha:
            return 0.0  # not even distinguishable from no leak at all
        parameter = _largest(lambda p: p > 0 and f_dp_rejects(of, family(p), alpha), top)
        return family(parameter).epsilon(delta) if parameter > 0 else 0.0

    best = Guesses(correct=guesses.made, made=guesses.made, num_canaries=guesses.num_canaries)
    name = "GDP" if family is gaussian else getattr(family, "__name__", "family")
    return Bound(value=value(guesses), ceiling=value(best), alpha=alpha, assumes=name)


def _largest(holds: Callable[[float], bool], top: float) -> float:
    """Returns, rounded down, the largest parameter in [0, top] at which a monotone condition holds."""
    low, high = 0.0, top
    for _ in range(18):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
