"""What events cost: epsilon at delta, by two kinds of accountant.

The stated epsilon comes from privacy loss distributions (PLD, `dp_accounting`). Renyi accounting by
`dp_accounting` and by Opacus bounds it from above and is reported beside it. Central-limit ("GDP")
estimates are never reported: they fall below the truth. Everything is rounded against ourselves.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import attr
import numpy as np
from dp_accounting import dp_event

GRID = 1e-3  # coarsest discretisation of privacy losses; pessimistic, so coarser only costs epsilon
SLACK = 1e-6  # added to epsilon: covers the lattice of exact noise (privacy/README.md) and float64 rounding
MIN_DELTA = 1e-10  # below it the rounding errors of the convolution (about 1e-15 per bin) are no longer small
AGREEMENT = (
    1.5  # RDP may exceed PLD by this factor (measured: 1.03 to 1.32) before it is called a disagreement
)
_ORDERS = (
    [1 + x / 4 for x in range(1, 40)] + [float(x) for x in range(11, 64)] + [2.0**k for k in range(6, 13)]
)


@attr.define
class ExponentialMechanismDpEvent(dp_event.DpEvent):
    """One choice by the exponential mechanism: P(r) ∝ exp(epsilon * score(r) / (2 * sensitivity))."""

    epsilon: float


@attr.define
class FailureDpEvent(dp_event.DpEvent):
    """A (0, delta) event: with probability at most `delta`, what is released betrays the one unit.

    Partition selection is a Gaussian event plus this one (`measure.selection_failure`).
    """

    delta: float


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Epsilon at delta, by each accountant, rounded up.

    Args:
      delta: public.
      pld: the stated epsilon.
      rdp: by `dp_accounting`.
      rdp_opacus: by Opacus' formulas.
      choices: exponential mechanisms take part. Their Renyi curve (epsilon**2 / 8) is not implied by their
        PLD, so that many of them may cost less by RDP than by PLD; both are valid bounds.
    """

    delta: float
    pld: float
    rdp: float
    rdp_opacus: float
    choices: bool = False

    @property
    def agree(self) -> bool:
        """Whether both Renyi bounds lie above PLD, and within the stated factor (plus 0.02 near zero)."""
        bounds = (self.rdp, self.rdp_opacus)
        if math.isinf(self.pld):
            return all(math.isinf(bound) for bound in bounds)
        least = self.pld / AGREEMENT if self.choices else self.pld
        return all(least <= bound <= AGREEMENT * self.pld + 0.02 for bound in bounds)


@dataclass
class Ingredients:
    """Events in a normal form whose composition is cheap; the order of composition does not matter."""

    gaussian: float = 0.0  # sum of 1 / noise_multiplier**2: Gaussian mechanisms compose to one, exactly
    sampled: dict[tuple[float, float], int] = field(default_factory=dict)  # (rate, noise multiplier): steps
    choices: list[float] = field(default_factory=list)  # epsilons of exponential mechanisms
    failure: float = 0.0  # combined probability of the failure events
    infinite: bool = False

    @classmethod
    def of(cls, events: Iterable[dp_event.DpEvent]) -> Ingredients:
        parts = cls()
        for event in events:
            parts._add(event, 1)
        return parts

    def _add(self, event: dp_event.DpEvent, times: int) -> None:
        if times == 0 or isinstance(event, dp_event.NoOpDpEvent):
            return
        if isinstance(event, dp_event.ComposedDpEvent):
            for part in event.events:
                self._add(part, times)
        elif isinstance(event, dp_event.SelfComposedDpEvent):
            self._add(event.event, times * event.count)
        elif isinstance(event, dp_event.GaussianDpEvent):
            self._add_gaussian(1.0, event.noise_multiplier, times)
        elif isinstance(event, dp_event.PoissonSampledDpEvent) and isinstance(
            event.event, dp_event.GaussianDpEvent
        ):
            self._add_gaussian(event.sampling_probability, event.event.noise_multiplier, times)
        elif isinstance(event, ExponentialMechanismDpEvent):
            self.choices += [event.epsilon] * times
        elif isinstance(event, FailureDpEvent):
            self.failure = -math.expm1(math.log1p(-self.failure) + times * math.log1p(-event.delta))
        elif isinstance(event, dp_event.NonPrivateDpEvent):
            self.infinite = True
        else:
            raise ValueError(f"No accountant here knows {type(event).__name__}.")

    def _add_gaussian(self, rate: float, noise_multiplier: float, times: int) -> None:
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"Expected sample_rate={rate} in [0, 1].")
        if not noise_multiplier >= 0.0:
            raise ValueError(f"Expected noise_multiplier={noise_multiplier} of at least 0.")
        if rate == 0.0:
            return
        if noise_multiplier == 0.0:
            self.infinite = True
        elif rate == 1.0:
            self.gaussian += times / noise_multiplier**2
        else:
            key = (rate, noise_multiplier)
            self.sampled[key] = self.sampled.get(key, 0) + times

    @property
    def empty(self) -> bool:
        return not (self.gaussian or self.sampled or self.choices or self.infinite)

    def delta_left(self, delta: float) -> float:
        """Delta for the other events: (0, f) beside them has f + (1 - f) * their delta, exactly."""
        return (delta - self.failure) / (1.0 - self.failure)


def epsilon(events: Iterable[dp_event.DpEvent], delta: float) -> Accounts:
    """Composes events and returns epsilon at delta by every accountant.

    Formal guarantee: `pld` is an upper bound on the epsilon of the composition under adding or removing one
    unit, for adaptively chosen questions with parameters fixed in advance.
    Edge cases: no events -> 0; an event without noise, or failures that use up delta -> infinity.

    Raises:
      ValueError: an event that no accountant knows, or delta outside [1e-10, 1).
    """
    parts = Ingredients.of(events)
    return Accounts(
        delta=delta,
        pld=pld_epsilon(parts, delta),
        rdp=_rdp_epsilon(parts, delta, _rdp_by_dp_accounting),
        rdp_opacus=_rdp_epsilon(parts, delta, _rdp_by_opacus),
        choices=bool(parts.choices),
    )


def pld_epsilon(parts: Ingredients, delta: float, grid: float = GRID) -> float:
    """Epsilon by privacy loss distributions alone; a finer grid is taken where epsilon is small."""
    left = checked_delta(parts, delta)
    if parts.empty and left >= 0.0:
        return 0.0
    if parts.infinite or left <= 0.0:
        return math.inf
    found = round_up(compose(parts, grid).get_epsilon_for_delta(left) + SLACK)
    finer = grid_for(found)
    return found if finer >= grid else min(found, pld_epsilon(parts, delta, finer))


def privacy_profile(parts: Ingredients, deltas: Sequence[float], grid: float = GRID) -> list[float]:
    """Epsilon at each delta by privacy loss distributions, rounded up; infinity where failures use it up."""
    left = [checked_delta(parts, delta) for delta in deltas]
    if parts.empty or parts.infinite:
        return [math.inf if parts.infinite or each < 0.0 else 0.0 for each in left]
    found = compose(parts, grid)
    return [round_up(found.get_epsilon_for_delta(each) + SLACK) if each > 0.0 else math.inf for each in left]


def grid_for(epsilon: float) -> float:
    """The discretisation that resolves an epsilon to about 1 in 500."""
    return GRID if epsilon >= 0.5 else GRID / 10 if epsilon >= 0.05 else GRID / 100


def checked_delta(parts: Ingredients, delta: float) -> float:
    if not MIN_DELTA <= delta < 1.0:
        raise ValueError(f"Expected delta={delta} in [{MIN_DELTA}, 1).")
    return parts.delta_left(delta)


def round_up(value: float, digits: int = 6) -> float:
    if not math.isfinite(value):
        return math.inf
    return math.ceil(value * 10**digits) / 10**digits


def compose(parts: Ingredients, grid: float):
    """The privacy loss distribution of everything but the failure events, or None when there is nothing."""
    pld = _gaussian_pld(parts.gaussian, grid)
    for (rate, noise_multiplier), steps in parts.sampled.items():
        step = step_pld(rate, noise_multiplier, grid).self_compose(steps)
        pld = step if pld is None else pld.compose(step)
    for each in sorted(set(parts.choices)):
        choice = _choice_pld(each, grid).self_compose(parts.choices.count(each))
        pld = choice if pld is None else pld.compose(choice)
    return pld


def _gaussian_pld(precision: float, grid: float):
    from dp_accounting.pld import privacy_loss_distribution as library

    if precision == 0.0:
        return None
    return library.from_gaussian_mechanism(precision**-0.5, value_discretization_interval=grid)


def step_pld(rate: float, noise_multiplier: float, grid: float):
    from dp_accounting.pld import privacy_loss_distribution as library

    return library.from_gaussian_mechanism(
        noise_multiplier, sampling_prob=rate, value_discretization_interval=grid
    )


def _choice_pld(each: float, grid: float):
    """Privacy loss of one exponential mechanism.

    Its loss ranges over an interval of length epsilon. The supremum over all such mechanisms of the
    divergence at e is (exp(epsilon/2) - exp(e/2))**2 / (exp(epsilon) - 1) on [-epsilon, epsilon], attained by
    two outcomes with losses t and t - epsilon, t = (epsilon + e) / 2; being convex in exp(e), it is the curve
    of a dominating pair.

    Source: Dong, Durfee & Rogers (2020), Optimal differential privacy composition for exponential mechanisms;
    Zhu, Dong & Wang (2022), Theorem 10 (curves as dominating pairs).
    """
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as library

    last = math.ceil(each / grid)
    bins = np.arange(-last, last + 1)
    losses = np.clip(bins * grid, -each, each)
    curve = (math.exp(each / 2) - np.exp(losses / 2)) ** 2 / math.expm1(each)
    curve = np.where(bins * grid <= -each, -np.expm1(bins * grid), curve)
    return library.PrivacyLossDistribution(pld_pmf.create_pmf_pessimistic_connect_dots(grid, bins, curve))


def _rdp_epsilon(parts: Ingredients, delta: float, curve: Callable) -> float:
    left = checked_delta(parts, delta)
    if parts.empty and left >= 0.0:
        return 0.0
    if parts.infinite or left <= 0.0:
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "optimal order is the largest": still a valid bound
        return round_up(float(curve(parts, left)) + SLACK)


def _rdp_by_dp_accounting(parts: Ingredients, delta: float) -> float:
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(_ORDERS)
    if parts.gaussian:
        accountant.compose(dp_event.GaussianDpEvent(parts.gaussian**-0.5))
    if parts.choices:
        accountant.compose(dp_event.ZCDpEvent(_choices_rho(parts)))
    logger = logging.getLogger("absl")  # says which orders it leaves out; leaving some out is valid
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        for (rate, noise_multiplier), steps in parts.sampled.items():
            step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise_multiplier))
            accountant.compose(dp_event.SelfComposedDpEvent(step, steps))
    finally:
        logger.setLevel(level)
    return accountant.get_epsilon(delta)


def _rdp_by_opacus(parts: Ingredients, delta: float) -> float:
    from opacus.accountants.analysis import rdp

    curve = np.array(_ORDERS) * _choices_rho(parts)
    steps = dict(parts.sampled)
    if parts.gaussian:
        steps[(1.0, parts.gaussian**-0.5)] = 1
    for (rate, noise_multiplier), count in steps.items():
        curve = curve + rdp.compute_rdp(
            q=rate, noise_multiplier=noise_multiplier, steps=count, orders=_ORDERS
        )
    return rdp.get_privacy_spent(orders=_ORDERS, rdp=curve, delta=delta)[0]


def _choices_rho(parts: Ingredients) -> float:
    """Zero-concentrated cost of the exponential mechanisms: epsilon**2 / 8 each (Cesar & Rogers, 2021)."""
    return sum(each**2 for each in parts.choices) / 8.0
