"""What showing only the best of a random number of trials costs.

The number of trials is drawn from the operating system's entropy and stays secret: given that number, the
choice would cost more.

Source: Papernot & Steinke (2022), Hyperparameter tuning with Renyi differential privacy.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    pass


NEGATIVE_BINOMIAL, POISSON = "negative_binomial", "poisson"


ORDERS = np.array(
    [1 + x / 4 for x in range(1, 40)] + [float(x) for x in range(11, 64)] + [2.0**k for k in range(6, 13)]
)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The distribution of the number of trials K. Public.

    Args:
      mean: E[K].
      shape: eta of the truncated negative binomial distribution: 1 is the geometric, 0 the logarithmic one;
        lower is cheaper and has more weight on a single trial.
      distribution: with "poisson", `shape` means nothing and K may be 0, when nothing is shown.
    """

    mean: float
    shape: float = 1.0
    distribution: Literal["negative_binomial", "poisson"] = NEGATIVE_BINOMIAL

    def __post_init__(self):
        if self.distribution not in (NEGATIVE_BINOMIAL, POISSON):
            raise ValueError(f"Expected {self.distribution!r} to be {NEGATIVE_BINOMIAL} or {POISSON}.")
        least = 1.0 if self.distribution == NEGATIVE_BINOMIAL else 0.0
        if not (self.mean >= least and self.mean > 0.0 and math.isfinite(self.mean)):
            raise ValueError(f"Expected mean_trials={self.mean} of at least {least:g}, and above 0.")
        if not self.shape > -1.0:
            raise ValueError(f"Expected shape={self.shape} above -1.")

    def probabilities(self) -> Iterator[tuple[int, float]]:
        """Yields k and P(K = k), from the smallest k on, without end."""
        if self.distribution == POISSON:
            k, p = 0, math.exp(-self.mean)
            while True:
                yield k, p
                k, p = k + 1, p * self.mean / (k + 1)
        gamma, eta = negative_binomial_gamma(self.mean, self.shape), self.shape
        if gamma == 1.0:
            yield 1, 1.0
            return
        p = (
            (1 - gamma) / -math.log(gamma)
            if eta == 0.0
            else eta * (1 - gamma) / math.expm1(-eta * math.log(gamma))
        )
        k = 1
        while True:
            yield k, p
            k, p = k + 1, p * (1 - gamma) * (k + eta) / (k + 1)

    def draw(self) -> int:
        """Draws K from the operating system's entropy; secret, and not to be repeated.

        Edge cases: the tail beyond 2**-53 of the mass is cut off by the resolution of the draw.
        """
        left = secrets.SystemRandom().random()
        k = 0
        for k, p in self.probabilities():
            left -= p
            if left < 0.0 or (p < 1e-18 and k > self.mean):
                break
        return k


@functools.cache
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


def selection_epsilon(runs: Sequence[Sequence[Any]], delta: float, trials: Trials) -> float:
    """Returns epsilon of showing the best of K trials, and nothing else.

    A trial draws one of `runs` at random and shows which; its Renyi curve is at most their pointwise maximum,
    whatever the odds. A failure event happens in one of K trials with E[K] times its probability at most.

    Formal guarantee: an upper bound under adding or removing one unit, if K follows `trials` and stays
    secret, each trial draws its configuration and its noise afresh, and the score reads nothing unpaid.
    Edge cases: a run without noise, or failures that use up delta -> infinity.

    Args:
      runs: the events of each configuration.
      delta: public.
    Source: Theorem 2 (negative binomial) and Theorem 6 (Poisson).
    """
    from opacus.accountants.analysis import rdp

    from dpsynth.privacy.accounting.accountants import SLACK, round_up

    curve, failure = selection_curve(runs, trials)
    usable = np.isfinite(curve)
    if delta <= failure or not usable.any():
        return math.inf
    found = rdp.get_privacy_spent(
        orders=list(ORDERS[usable]), rdp=list(curve[usable]), delta=delta - failure
    )[0]
    return round_up(float(found) + SLACK)


def selection_curve(runs: Sequence[Sequence[Any]], trials: Trials) -> tuple[np.ndarray, float]:
    """Returns the Renyi curve of showing the best trial, at `ORDERS`, and the probability of failure.

    See `selection_epsilon`.
    """
    from dpsynth.privacy.accounting.accountants import Ingredients

    parts = [Ingredients.of(events) for events in runs]
    failure = max(1.0, trials.mean) * max(part.failure for part in parts)
    if any(part.infinite for part in parts):
        return np.full(len(ORDERS), np.inf), failure
    single = np.max([renyi_curve(part, ORDERS) for part in parts], axis=0)
    if trials.distribution == POISSON:
        curve = single + trials.mean * _deltas(parts, ORDERS) + math.log(trials.mean) / (ORDERS - 1)
    else:
        gamma = negative_binomial_gamma(trials.mean, trials.shape)
        free = (1 + trials.shape) * np.min((1 - 1 / ORDERS) * single - math.log(gamma) / ORDERS)
        curve = single + math.log(trials.mean) / (ORDERS - 1) + free
    return curve, failure


def renyi_curve(parts: Any, orders: np.ndarray) -> np.ndarray:
    """Returns the Renyi curve of everything but the failure events; inf where an order overflows."""
    from opacus.accountants.analysis import rdp

    curve = orders * sum(each**2 for each in parts.choices) / 8.0
    steps = dict(parts.sampled)
    if parts.gaussian:
        steps[(1.0, parts.gaussian**-0.5)] = 1
    for (rate, noise_multiplier), count in steps.items():
        found = rdp.compute_rdp(q=rate, noise_multiplier=noise_multiplier, steps=count, orders=list(orders))
        curve = curve + np.where(np.isnan(found), np.inf, found)  # the largest orders overflow
    return curve


def _deltas(parts: Sequence[Any], orders: np.ndarray) -> np.ndarray:
    """Delta of one trial at epsilon = log(1 + 1 / (order - 1)), the most that Theorem 6 allows, by PLD."""
    from dpsynth.privacy.accounting.accountants import GRID, compose

    epsilons = np.log1p(1.0 / (orders - 1.0))
    deltas = np.zeros(len(orders))
    for part in parts:
        if not part.empty:
            found = compose(part, GRID).get_delta_for_epsilon(epsilons[::-1])[::-1]  # it wants them rising
            deltas = np.maximum(deltas, found)
    return deltas
