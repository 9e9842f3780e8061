"""Does the running DP step do what the plan says? Noise, clip, rate, divisor and steps, from its own figures.

The figures come from the mechanism itself (`TrainingLog.conformance`), cost nothing and are internal. Each
test is exact or exact up to float32, and its false alarms are set per check, so that a monitor on every run
of a large sweep stays silent: 1e-6 by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest, chi2

from dpsynth.audit.types import Leak

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import TrainingPlan
    from dpsynth.privacy.training.progress import TrainingLog

FALSE_ALARM = 1e-6
_FLOAT32 = 1e-4  # clipped norms are float32 sums


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """Figures by metric name, and the rules they break."""

    figures: dict[str, float]
    leaks: tuple[Leak, ...]


def check_training(log: TrainingLog, plan: TrainingPlan, *, false_alarm: float = FALSE_ALARM) -> Conformance:
    """Holds what a training did against its plan.

    Formal guarantee: a sound step fails with probability at most 5 `false_alarm`. The noise test is one-sided
    (too little noise breaks the claim, too much only wastes); at 1e6 noise values it sees a stddev that is
    1 % too small with certainty.
    """
    seen = log.conformance
    steps_here = plan.steps - log.resumed_at
    leaks = [
        *check_noise(
            seen.noise_second_moment, seen.steps, log.num_parameters, plan.noise_stddev, false_alarm
        ),
        *check_clip(seen.max_clipped_norm, plan.max_grad_norm),
        *check_rate(seen.units_drawn, seen.num_units * seen.steps, plan.sample_rate, false_alarm),
    ]
    if seen.steps > steps_here:
        leaks.append(Leak(where="steps", rule="More noisy steps were taken than the plan charges for."))
    if plan.expected_batch_size is not None and seen.divisor != plan.expected_batch_size:
        leaks.append(
            Leak(
                where="divisor", rule="The noisy sum was divided by something else than the plan's constant."
            )
        )
    expected = plan.noise_stddev
    figures = {
        "conformance/noise_ratio": seen.noise_stddev / expected if expected > 0 else float("nan"),
        "conformance/clip_max": seen.max_clipped_norm / plan.max_grad_norm,
        "conformance/rate": seen.inclusion_rate / plan.sample_rate if plan.sample_rate else float("nan"),
        "conformance/steps": float(seen.steps),
        "conformance/divisor": float(seen.divisor),
        "conformance/leaks": float(len(leaks)),
    }
    return Conformance(figures=figures, leaks=tuple(leaks))


def check_noise(
    second_moment: float, steps: int, size: int, stddev: float, false_alarm: float = FALSE_ALARM
) -> list[Leak]:
    """Tests the noise variance by its exact chi-square law.

    Args:
      second_moment: sum over `steps` of the mean square of `size` noise values.
    """
    if stddev <= 0.0:
        return [Leak(where="noise", rule="The plan has no noise.")]
    if steps == 0:
        return []
    values = steps * size
    p_value = chi2.cdf(second_moment * size / stddev**2, values)
    rule = "The noise is smaller than the plan's."
    return [Leak(where="noise", rule=rule, detail=f"p = {p_value:.1g}")] if p_value < false_alarm else []


def check_clip(max_norm: float, max_grad_norm: float) -> list[Leak]:
    """Tests that no unit contributed more than the clipping norm; certain, up to float32."""
    too_far = max_norm > max_grad_norm * (1 + _FLOAT32)
    return [Leak(where="clip", rule="A unit contributed more than the clipping norm.")] if too_far else []


def check_rate(drawn: int, trials: int, sample_rate: float, false_alarm: float = FALSE_ALARM) -> list[Leak]:
    """Tests the number of units drawn by its exact binomial law; a lower rate than planned is no leak."""
    if trials == 0:
        return []
    p_value = binomtest(int(drawn), int(trials), sample_rate, alternative="greater").pvalue
    rule = "Units take part more often than the plan's rate."
    return [Leak(where="rate", rule=rule, detail=f"p = {p_value:.1g}")] if p_value < false_alarm else []


def check_sampler(
    draw: Callable[[], Sequence[int]],
    num_units: int,
    sample_rate: float,
    *,
    draws: int = 400,
    false_alarm: float = FALSE_ALARM,
) -> list[Leak]:
    """Tests that batches are Poisson: rate, variance of the batch size, and independence across draws.

    Batches of a fixed size, or cut from a shuffled list, have the right rate and a batch size that does not
    vary; within an epoch of a shuffle no unit comes twice. Both change the event (Chua et al. 2024).
    """
    batches = [np.asarray(draw(), dtype=np.int64) for _ in range(draws)]
    sizes = np.array([len(b) for b in batches])
    leaks = check_rate(int(sizes.sum()), num_units * draws, sample_rate, false_alarm)
    if 0 < sample_rate < 1:
        # Sum of squared deviations over the binomial variance: chi-square up to terms of 1 / (N q (1 - q)).
        scatter = np.sum((sizes - num_units * sample_rate) ** 2) / (
            num_units * sample_rate * (1 - sample_rate)
        )
        if chi2.cdf(scatter, draws) < false_alarm:
            leaks.append(
                Leak(where="sampler", rule="Batch sizes do not vary as Poisson sampling makes them.")
            )
        together = sum(len(np.intersect1d(a, b)) for a, b in zip(batches, batches[1:]))
        expected = num_units * sample_rate**2 * (draws - 1)
        if abs(together - expected) > 5.5 * np.sqrt(3 * expected) + 5:
            leaks.append(Leak(where="sampler", rule="Consecutive batches are not independent."))
    if any(len(np.unique(b)) != len(b) for b in batches):
        leaks.append(Leak(where="sampler", rule="A unit takes part more than once in one step."))
    return leaks


def check_size_independence(facts: Callable[[int], Any], num_units: int = 1000) -> list[Leak]:
    """Tests that what a run derives from its table size (rate, steps, divisor) ignores one unit more or less.

    Args:
      facts: number of units -> anything comparable; under add or remove it must be constant near N.
    """
    reference = facts(num_units)
    changed = [n for n in (num_units - 1, num_units + 1) if facts(n) != reference]
    rule = "Rate, steps or divisor depend on the exact number of units."
    return [Leak(where="size", rule=rule)] if changed else []


def check_unit_independence(
    losses: Callable[[Any], Any], units: Any, others: Any, *, tolerance: float = 1e-5
):
    """Tests that replacing unit i changes loss i only: finds packing, BatchNorm, batch means.

    Args:
      losses: units -> one loss per unit, with all its draws repeated at every call.
      units, others: equally many made-up units; `others[i]` replaces `units[i]`.
    """
    reference = np.asarray(losses(units).detach(), float)
    if reference.shape != (len(units),):
        return [Leak(where="loss", rule="There is not one loss per unit.")]
    for i in range(len(units)):
        changed = units.clone()
        changed[i] = others[i]
        moved = np.abs(np.asarray(losses(changed).detach(), float) - reference) > tolerance * (
            1 + np.abs(reference)
        )
        moved[i] = False
        if moved.any():
            return [Leak(where="loss", rule="One unit changes the losses of others.")]
    return []
