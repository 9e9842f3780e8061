"""Trade-off curves: the smallest miss rate that a mechanism leaves to any membership attack.

A claim about privacy is a curve f: whatever the attack, at false-positive rate alpha its false-negative
rate is at least f(alpha) (Dong, Roth and Su 2022). The curve of a ledger is read off its privacy loss
distribution and says much more than one point (epsilon, delta) of it: a subsampled Gaussian at
(8, 1e-5) may leave an attack an AUC of 0.81, where (8, 1e-5) alone would excuse 0.9997.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr, ndtri


class TradeOff(Protocol):
    """What a mechanism promises about one unit: `in` worlds hold it, `out` worlds do not.

    Attributes:
      family: what the curve assumes, for the record (for example `subsampled_gaussian`).
    """

    family: str

    def beta(self, alpha) -> np.ndarray:
        """Smallest false-negative rate at false-positive rate `alpha`."""

    def alpha(self, beta) -> np.ndarray:
        """Smallest false-positive rate at false-negative rate `beta`: the curve of the mirrored test."""

    def epsilon(self, delta: float) -> float:
        """Smallest epsilon at `delta`, in the worse of both directions."""

    def auc_ceiling(self) -> float:
        """Highest AUC of any attack: the integral of 1 - f."""

    def ideal_scores(
        self, num_in: int, num_out: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws scores of an attack that reaches the curve everywhere: (in, out)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A polygonal ROC curve, concave, from (0, a) to (1, 1); 1 - f in the language of trade-offs.

    Args:
      family: what the curve assumes.
      fpr: false-positive rates of the vertices, non-decreasing, ending at 1.
      tpr: largest true-positive rates there, non-decreasing, ending at 1.
    """

    family: str
    fpr: np.ndarray
    tpr: np.ndarray

    def beta(self, alpha) -> np.ndarray:
        alpha = np.asarray(alpha, dtype=float)
        at = np.interp(alpha, self.fpr, self.tpr)
        return np.where(alpha >= 1.0, 0.0, 1.0 - at)

    def alpha(self, beta) -> np.ndarray:
        tpr = 1.0 - np.asarray(beta, dtype=float)
        # np.interp takes the last of equal abscissae; the first vertex that reaches a TPR is the cheapest.
        keep = np.concatenate([[True], np.diff(self.tpr) > 0])
        return np.where(tpr <= self.tpr[0], 0.0, np.interp(tpr, self.tpr[keep], self.fpr[keep]))

    def epsilon(self, delta: float) -> float:
        worst = 0.0
        for false, true in ((self.fpr, self.tpr), (1.0 - self.tpr, 1.0 - self.fpr)):
            hit = true > delta * (1 + 1e-9) + 1e-14  # not by rounding alone
            with np.errstate(divide="ignore"):
                worst = max(worst, np.max(np.log(true[hit] - delta) - np.log(np.maximum(false[hit], 0.0))))
        return float(worst)

    def auc_ceiling(self) -> float:
        return float(np.trapezoid(self.tpr, self.fpr))

    def ideal_scores(
        self, num_in: int, num_out: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return -self.alpha(rng.random(num_in)), -rng.random(num_out)


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Telling N(0, 1) from N(mu, 1), in closed form.

    Source: Dong, Roth and Su (2022), equation 6 and corollary 2.13.
    """

    mu: float
    family: str = "gaussian"

    def beta(self, alpha) -> np.ndarray:
        return ndtr(-ndtri(np.asarray(alpha, dtype=float)) - self.mu)

    def alpha(self, beta) -> np.ndarray:
        return self.beta(beta)

    def delta(self, epsilon: float) -> float:
        """Hockey-stick divergence at `epsilon`."""
        if self.mu == 0.0:
            return 0.0
        near, far = -epsilon / self.mu + self.mu / 2, -epsilon / self.mu - self.mu / 2
        return float(ndtr(near) - np.exp(epsilon + _log_ndtr(far)))

    def epsilon(self, delta: float) -> float:
        from scipy.optimize import brentq

        if self.mu <= 0.0 or self.delta(0.0) <= delta:
            return 0.0
        top = self.mu * (self.mu / 2 - ndtri(delta)) if delta > 0 else np.inf
        return float(brentq(lambda e: self.delta(e) - delta, 0.0, top)) if np.isfinite(top) else float("inf")

    def auc_ceiling(self) -> float:
        return float(ndtr(self.mu / np.sqrt(2)))

    def ideal_scores(
        self, num_in: int, num_out: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return rng.standard_normal(num_in) + self.mu, rng.standard_normal(num_out)


def _log_ndtr(x: float) -> float:
    from scipy.special import log_ndtr

    return float(log_ndtr(x))


def gaussian(mu: float) -> Gaussian:
    """Returns the curve of `mu`-GDP; a Gaussian mechanism has mu = sensitivity / noise stddev."""
    return Gaussian(mu=float(mu))


def eps_delta(epsilon: float, delta: float) -> Curve:
    """Returns the weakest curve that satisfies (epsilon, delta): all that a bare claim excuses.

    Source: Wasserman and Zhou (2010); Dong, Roth and Su (2022), equation 5.
    """
    knee = (1.0 - delta) / (1.0 + np.exp(epsilon))
    fpr = np.array([0.0, knee, 1.0 - delta, 1.0])
    return Curve(family="eps_delta", fpr=fpr, tpr=np.array([delta, 1.0 - knee, 1.0, 1.0]))


def allowed(f: TradeOff) -> dict[str, list[float]]:
    """Returns points of the highest ROC curve that a claim excuses, dense at small rates, for plots."""
    fpr = np.unique(np.concatenate([np.geomspace(1e-4, 1, 100), np.linspace(0, 1, 101)]))
    return {"fpr": fpr.tolist(), "tpr": (1 - f.beta(fpr)).tolist()}


@lru_cache(maxsize=64)
def subsampled_gaussian(
    noise_multiplier: float, sample_rate: float, steps: int, interval: float | None = None
) -> Curve:
    """Returns the curve of `steps` Poisson-subsampled Gaussian steps, for adding or removing one unit.

    Args:
      noise_multiplier: noise stddev over the clipping norm.
      interval: of the loss grid; coarser is faster and excuses a little more. None keeps about 1e5 losses.
    Source: Doroshenko et al. (2022), connect-the-dots privacy loss distributions.
    """
    from dpsynth.privacy.accounting.accountants import step_pld

    interval = interval or (1e-4 if noise_multiplier >= 0.7 else 1e-3)
    step = step_pld(sample_rate, noise_multiplier, interval)
    return from_pld(step.self_compose(steps) if steps > 1 else step, family="subsampled_gaussian")


def from_pld(pld: Any, *, family: str = "pld") -> Curve:
    """Returns the curve of a `dp_accounting` privacy loss distribution, in the remove direction.

    `in` is the world that holds the unit, so the curve bounds the true positives at a false-positive
    rate over worlds without it. The distribution is pessimistic, hence the curve never claims too much.
    """
    # The public interface mixes both directions; the attack knows which of its worlds holds the unit.
    # Each direction is precise where its own loss is positive, so half of the curve comes from each.
    fpr, tpr = _corner(pld._pmf_remove)
    mirrored_fpr, mirrored_tpr = _corner(pld._pmf_add)
    fpr = np.concatenate([fpr, 1.0 - mirrored_tpr[::-1], [1.0]])
    tpr = np.concatenate([tpr, 1.0 - mirrored_fpr[::-1], [1.0]])
    return Curve(family=family, fpr=np.maximum.accumulate(fpr), tpr=np.maximum.accumulate(tpr))


def _corner(pmf: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns (fpr, tpr) when outcomes of loss >= 0 are accused, highest loss first.

    An outcome of loss l and mass p adds p to the true positives and p exp(-l) to the false ones.
    """
    losses = pmf.to_dense_pmf()
    loss = (losses._lower_loss + np.arange(len(losses._probs)))[::-1] * losses._discretization
    p_in = np.asarray(losses._probs, dtype=float)[::-1][loss >= 0]
    tpr = losses._infinity_mass + np.concatenate([[0.0], np.cumsum(p_in)])
    fpr = np.concatenate([[0.0], np.cumsum(p_in * np.exp(-loss[loss >= 0]))])
    return np.clip(fpr, 0.0, 1.0), np.clip(tpr, 0.0, 1.0)


def from_events(events: Sequence[Any], *, interval: float = 1e-4) -> Curve:
    """Returns the curve of composed events, as a ledger holds them, by the ledger's own accountant.

    Edge cases: no events -> membership leaves no trace; an event without noise -> everything is excused; a
    failure event of probability p betrays the unit outright with that probability.
    Raises:
      ValueError: an event that no accountant knows.
    """
    from dpsynth.privacy.accounting import accountants

    parts = accountants.Ingredients.of(events)
    if parts.infinite:
        return Curve(family="ledger", fpr=np.array([0.0, 1.0]), tpr=np.array([1.0, 1.0]))
    pld = accountants.compose(parts, interval)
    none = Curve(family="ledger", fpr=np.array([0.0, 1.0]), tpr=np.array([0.0, 1.0]))
    curve = none if pld is None else from_pld(pld, family="ledger")
    if parts.failure == 0.0:
        return curve
    kept = 1.0 - parts.failure
    fpr = np.concatenate([curve.fpr * kept, [1.0]])
    return Curve(family="ledger", fpr=fpr, tpr=np.concatenate([parts.failure + kept * curve.tpr, [1.0]]))
