"""Settings of the audits: the group conf/audit. All public; light, so that a mistake answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dpsynth.errors import InvalidInput, Problem

_SHARES = ("alpha", "vulnerable_share", "planted_share", "k_share")
_LEAST = {"m": 20, "steps": 1, "noise_values": 10, "n_train": 20, "n_eval": 20, "jobs": 1}
_LEAST |= {"shadows": 0, "max_targets": 100, "max_rows": 50, "planted_repeats": 1}


class _Checked:
    """Checks the keys that several audits share."""

    def __post_init__(self):
        if problems := list(_problems(vars(self))):
            raise InvalidInput("audit", problems)


def _problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    for key in (key for key in _SHARES if key in values):
        value = values[key]
        if not (isinstance(value, int | float) and 0 < value < 1):
            yield Problem(key, f"{value!r} is not in (0, 1).", "Choose a share.")
    for key, least in _LEAST.items():
        value = values.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            rule = f"{value!r} is not a whole number of at least {least}."
            yield Problem(key, rule, "Raise it.")
    for fpr in (*values.get("fprs", ()), *filter(None, [values.get("require_fpr")])):
        if not (isinstance(fpr, int | float) and 0 < fpr < 1):
            rule = f"{fpr!r} is no false-positive rate in (0, 1)."
            yield Problem("fprs", rule, "0.01 is usual.")
    if "seed" in values and not (isinstance(values["seed"], int) and values["seed"] >= 0):
        yield Problem("seed", f"{values['seed']!r} is no whole number of at least 0.", "It is public.")


@dataclass(frozen=True, kw_only=True)
class SmokeConfig(_Checked):
    """What every run is checked for (conf/audit/smoke.yaml).

    Args:
      kind: `none` only holds the figures that training keeps anyway against its plan.
      m: gradient canaries.
      steps: a plan of at most so many is audited as it is, a longer one at rate 1.
      alpha: error rate of the verdict and of the bound on epsilon; small, since this runs with every point of
        every sweep.
      noise_values: noise values drawn per measurement of the plan.
      seed: public.
    """

    kind: Literal["smoke", "none"] = "smoke"
    m: int = 1000
    steps: int = 60
    alpha: float = 1e-4
    noise_values: int = 2000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WhiteboxConfig(_Checked):
    """How the training step is audited (conf/audit/whitebox.yaml).

    Args:
      m: canaries; also the number of parameters of the audited step.
      steps: a plan of at most so many is audited as it is, a longer one at rate 1.
      k_share: share of canaries called member, and share called non-member, in one-run tests.
      alpha: error rate of the verdict and of the bounds.
      seed: public: coins of the canaries. The step's own noise never depends on it.
      scores: file for every target's score and membership, private; null writes none.
    """

    m: int = 1000
    steps: int = 100
    k_share: float = 0.15
    alpha: float = 0.05
    seed: int = 0
    scores: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig(_Checked):
    """How a release is attacked (conf/audit/release.yaml).

    Args:
      attacks: names; those that need a reference, or the released weights, are left out without them.
      max_targets: members and non-members together, drawn at random beyond that.
      max_rows: synthetic and reference rows that attacks look at, each.
      vulnerable_share: of the targets, most isolated first, in the stratum `vulnerable`.
      fprs: false-positive rates at which true positives are reported when they can be resolved.
      require_fpr: refuse when this rate cannot be resolved; null never refuses.
      alpha: error rate of the verdict.
      planted_share: of members copied exactly in the named alternative of the power statement.
      planted_repeats: plantings behind that statement.
      shadows: releases of the same method behind the attacks `lira`, `rmia` and `shadow_features`, 32 or
        more; 0 leaves them out.
      jobs: processes that train the shadows.
      backend: `joblib` on this machine, or `ray` here or on the cluster of `RAY_ADDRESS`.
      secrets: columns whose values are inferred from the others; null takes the last column.
      seed: public.
      scores: file for every target's score and membership, private; null writes none.
    """

    attacks: tuple[str, ...] = (
        "copy",
        "nearest_record",
        "nearest_ratio",
        "ball_count",
        "density",
        "extremes",
        "distance_difference",
        "local_share",
        "domias",
        "gen_lra",
        "classifier",
        "queries",
        "likelihood",
        "inversion",
    )
    max_targets: int = 2000
    max_rows: int = 10_000
    vulnerable_share: float = 0.1
    fprs: tuple[float, ...] = (0.01, 0.001)
    require_fpr: float | None = None
    alpha: float = 0.05
    planted_share: float = 0.1
    planted_repeats: int = 20
    shadows: int = 0
    jobs: int = 2
    backend: Literal["joblib", "ray"] = "joblib"
    secrets: tuple[str, ...] | None = None
    seed: int = 0
    scores: str | None = None


@dataclass(frozen=True, kw_only=True)
class MultirunConfig(_Checked):
    """How the distinguishing game is played (conf/audit/multirun.yaml).

    Args:
      n_train: runs per world that teach the distinguisher and fix its threshold.
      n_eval: runs per world that are judged.
      alpha: error rate of the verdict and of the bounds.
      jobs: processes.
      backend: `joblib` on this machine, or `ray` here or on the cluster of `RAY_ADDRESS`.
      seed: public: seeds of the models (never of the noise) and of the distinguisher.
      scores: file for every target's score and membership, private; null writes none.
    """

    n_train: int = 60
    n_eval: int = 100
    alpha: float = 0.05
    jobs: int = 2
    backend: Literal["joblib", "ray"] = "joblib"
    seed: int = 0
    scores: str | None = None
