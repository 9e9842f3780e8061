"""Bounds that an audited step shows, told in the units of the training's own epsilon.

A step is often audited by another rate and number of steps than the training's (`dpsynth.audit.whitebox`). So
that every estimator's evidence can stand beside theory, each bound on the step becomes the most noise that it
leaves possible, and that noise goes through the accountant in the whole training. This rests on the plan's
rate and steps, whatever the bound itself rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_FACTORS = np.geomspace(8.0, 0.4, 9)  # of the planned noise


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """One way to bound epsilon from an attack on the training step.

    Args:
      bound, most: names of its statistics: the bound, and what these canaries could at most have shown.
      upper: of an interval's other end; None for a bound alone.
    """

    label: str
    bound: str
    most: str
    upper: str | None = None


ESTIMATORS = {
    "auc": Estimator(label="claim test, inverted", bound="eps_lo_auc", most="eps_max_auditable_auc"),
    "gdp": Estimator(label="GDP", bound="eps_lo_gdp", most="eps_max_auditable_gdp"),
    "onerun_fdp": Estimator(
        label="one run, f-DP", bound="eps_lo_onerun_fdp", most="eps_max_auditable_onerun_fdp"
    ),
    "onerun": Estimator(label="one run, Steinke", bound="eps_lo_onerun", most="eps_max_auditable_onerun"),
    "cp": Estimator(label="Clopper-Pearson", bound="eps_lo_cp", most="eps_max_auditable"),
    "post": Estimator(
        label="Bayes, 90 % credible",
        bound="eps_post_q05",
        most="eps_max_auditable_post",
        upper="eps_post_q95",
    ),
}


def told_of_training(
    statistics: Mapping[str, float],
    *,
    step: Callable[[float], float],
    training: Callable[[float, float], float],
) -> dict[str, float]:
    """Returns `training/eps_theory`, `training/eps_lo_*` and `training/eps_max_auditable_*` by estimator.

    Formal guarantee: bounds of the step are inverted through nine factors of noise, linear in between on log
    axes (within 2 % of exact inversion in the tests).
    Edge cases: a bound that leaves eight times the planned noise possible becomes 0; one that leaves less
    than 0.4 of it is cut there.

    Args:
      step: factor of the planned noise -> epsilon of the audited step.
      training: (factor, grid of the accountant) -> epsilon of the whole training.
    """
    steps, whole, grid = [], [], 1e-3
    for factor in _FACTORS:
        here, there = step(float(factor)), training(float(factor), grid)
        if min(here, there) > 0:
            steps.append(here)
            whole.append(there)
        grid = float(np.clip(there / 1000, 1e-3, 5e-3))  # larger losses need no finer grid

    def told(epsilon: float) -> float:
        if not steps or not epsilon >= steps[0]:
            return 0.0
        return float(np.exp(np.interp(np.log(epsilon), np.log(steps), np.log(whole))))

    out = {"training/eps_theory": training(1.0, 1e-3)}
    for key, estimator in ESTIMATORS.items():
        if estimator.bound not in statistics:
            continue
        out[f"training/eps_lo_{key}"] = told(statistics[estimator.bound])
        out[f"training/eps_max_auditable_{key}"] = told(statistics[estimator.most])
        if estimator.upper is not None:
            out[f"training/eps_hi_{key}"] = told(statistics[estimator.upper])
    return out


def kept(summary: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Returns what a sweep remembers of it by estimator: epsilon in theory, bound, ceiling, upper end."""
    parts = {"lo": "eps_lo", "most": "eps_max_auditable", "hi": "eps_hi"}
    out = {}
    for key in ESTIMATORS:
        names = {short: f"training/{long}_{key}" for short, long in parts.items()}
        if found := {short: summary[name] for short, name in names.items() if name in summary}:
            out[key] = {"theory": summary["training/eps_theory"], **found}
    return out
