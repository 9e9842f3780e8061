"""Choosing the best of a random number of trials: how many, and what showing only the best costs.

The number of trials is drawn from the operating system's entropy and stays secret: given that number, or the
best one's place among them, which bounds it, the choice would cost more. What is shown is the best trial's
release and its configuration; neither its score nor anything of other trials.

Source: Papernot & Steinke (2022), Hyperparameter tuning with Renyi differential privacy.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dpsynth.errors import GuaranteeVoid

if TYPE_CHECKING:
    from dpsynth.privacy.release import Release

NEGATIVE_BINOMIAL, POISSON = "negative_binomial", "poisson"
_SCORE_STEPS = 1000  # a row's score counts in thousandths
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

    from dpsynth.privacy.accounting import SLACK, round_up

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
    from dpsynth.privacy.accounting import Ingredients

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


def selection_facts(
    runs: Sequence[Sequence[Mapping[str, Any]]], delta: float, trials: Trials, about: str
) -> dict[str, Any]:
    """States what a selection costs, so that a stranger can compute it again. Public.

    Args:
      runs: the events of each configuration, and of the score of each, as ledgers have them.
      about: what the trials were scored by.
    """
    from dpsynth.privacy.records import event_from_dict

    events = [[event_from_dict(event) for event in run] for run in runs]
    found = selection_epsilon(events, delta, trials)
    return {
        "epsilon": math.ceil(found * 1e4) / 1e4 if math.isfinite(found) else None,
        "delta": delta,
        "trials": asdict(trials),
        "runs": [list(run) for run in runs],
        "score": about,
    }


def certified(release: Release, facts: Mapping[str, Any]) -> Release:
    """Returns the best trial's release with the claim of the selection in place of its own.

    Args:
      release: of the trial that was chosen.
      facts: see `selection_facts`.
    """
    from dpsynth.privacy.certificate import make_certificate
    from dpsynth.privacy.records import START, line_hash

    records, previous = [], START
    for record in release.ledger:
        body = {key: value for key, value in record.items() if key != "hash"} | {"previous": previous}
        if body["kind"] == "plan":
            body["selection"] = dict(facts)
        previous = line_hash(body)
        records.append({**body, "hash": previous})
    certificate = make_certificate(records, release.schema, release.certificate["noise"])
    return replace(release, ledger=tuple(records), certificate=certificate)


def score_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier of a trial's score: as much as one Gaussian event may have for the trial's budget.

    Holdout rows are in no trial's training table, so their budget is as large as the trial's own.
    """
    from dpsynth.privacy.calibration import gaussian_noise_multiplier

    return math.ceil(gaussian_noise_multiplier(epsilon, delta) * 1e4) / 1e4


def noisy_score(scores: np.ndarray, noise_multiplier: float, entropy: Any, *, max_rows: int = 1) -> float:
    """Returns the noisy sum of scores of rows that no trial trained on.

    Formal guarantee: one Gaussian event of this noise multiplier over units with at most `max_rows` rows, if
    a row's score depends on that row and on what was paid for alone. A unit is either here or in the training
    table, never in both, so a trial with its score costs one unit the larger of the two, not their sum.

    Args:
      scores: private; in [0, 1], one per row.
    Raises:
      GuaranteeVoid: a score is not a number; what its row would change has no bound.
    """
    from dpsynth.privacy.noise import exact_gaussian

    if not np.isfinite(scores).all():
        raise GuaranteeVoid("A row's score is not finite. Score every row with a number in [0, 1].")
    steps = np.rint(np.clip(scores, 0.0, 1.0) * _SCORE_STEPS).astype(np.int64)
    stddev = noise_multiplier * _SCORE_STEPS * max_rows
    return float(exact_gaussian(np.array([steps.sum()]), stddev, entropy=entropy)[0] / _SCORE_STEPS)


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
    from dpsynth.privacy.accounting import GRID, compose

    epsilons = np.log1p(1.0 / (orders - 1.0))
    deltas = np.zeros(len(orders))
    for part in parts:
        if not part.empty:
            found = compose(part, GRID).get_delta_for_epsilon(epsilons[::-1])[::-1]  # it wants them rising
            deltas = np.maximum(deltas, found)
    return deltas
