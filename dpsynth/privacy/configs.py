"""What the user declares about privacy, training and sweeps: conf/privacy, conf/training, `sweep`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpsynth.errors import InvalidInput, Problem


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """What the user declares (conf/privacy). All public.

    Args:
      name: "dp", or an explicit run without privacy: "none" (as published), and two that say where utility
        goes: "clipping" (the private method without any noise) and "encoding" (bought statistics as under
        privacy, published training).
      epsilon: the total budget; the training noise is solved for it. Null when `noise_multiplier` is given.
      delta: probability of failure, well below 1 / number of units.
      noise_multiplier: of training, noise stddev over clipping norm; `max_epsilon` then sets the steps.
      max_epsilon: the total budget when `noise_multiplier` is given: training stops before the step that
        would exceed it.
      count_share, columns_share, marginals_share, validation_share: fractions of the budget in units of
        1 / noise_multiplier**2 (what Gaussian mechanisms add up when they compose). The rest is for training;
        a share that is not needed goes to training, or, without training, to the columns. `validation_share`
        buys noisy losses while training. Null for the columns lets the plan choose: 0.2 where pairs of
        columns are bought by them, else 0.1.
      noise: "aes" or "torch"; the certificate names it.
      lifetime_epsilon, lifetime_delta: the most that all private runs on this table may spend together, over
        days; a run that would overdraw it is refused. Null: no limit; delta as of this run.
      dataset: the user's own name for the table, under which this total is kept whatever becomes of the rows;
        null recognises the table by the values of its columns.
      dataset_ledger: file that keeps this total; null takes the user's own.
    """

    name: Literal["dp", "none", "clipping", "encoding"] = "dp"
    epsilon: float | None = 1.0
    delta: float = 1e-5
    noise_multiplier: float | None = None
    max_epsilon: float | None = None
    count_share: float = 0.01
    columns_share: float | None = None
    marginals_share: float = 0.0
    validation_share: float = 0.0
    noise: Literal["aes", "torch"] = "aes"
    lifetime_epsilon: float | None = None
    lifetime_delta: float | None = None
    dataset: str | None = None
    dataset_ledger: str | None = None

    def __post_init__(self):
        if problems := list(self._problems()):
            raise InvalidInput("privacy", problems)

    @property
    def private(self) -> bool:
        return self.name == "dp"

    @property
    def shaped(self) -> bool:
        """Whether generators are made as for privacy, whatever is promised."""
        return self.name != "none"

    @property
    def total_epsilon(self) -> float:
        """The declared budget, whichever way training is steered."""
        if not self.private:
            return math.inf
        return self.epsilon if self.epsilon is not None else self.max_epsilon

    def _problems(self) -> Iterator[Problem]:
        if self.name not in ("dp", "none", "clipping", "encoding"):
            rule = f"Expected {self.name!r} to be dp, none, clipping or encoding."
            yield Problem("privacy.name", rule, "Set privacy=dp.")
        if self.noise not in ("aes", "torch"):
            yield Problem("privacy.noise", f"Expected {self.noise!r} to be aes or torch.", "Use aes.")
        yield from _above("privacy.lifetime_epsilon", self.lifetime_epsilon, 0.0)
        if self.dataset is not None and not self.dataset.strip():
            yield Problem("privacy.dataset", "is an empty name.", "Name the table, or set it to null.")
        if self.name in ("none", "clipping"):
            return
        if self.noise_multiplier is not None:
            if self.epsilon is not None:
                yield Problem(
                    "privacy.noise_multiplier",
                    "is given together with privacy.epsilon.",
                    "To solve for the noise, leave it out; to fix the noise, set privacy.epsilon=null and "
                    "privacy.max_epsilon to the budget at which training stops.",
                )
            elif self.max_epsilon is None:
                yield Problem(
                    "privacy.max_epsilon",
                    "is needed with privacy.noise_multiplier.",
                    "Set it to the budget at which training stops.",
                )
            yield from _above("privacy.noise_multiplier", self.noise_multiplier, 0.0)
        elif self.epsilon is None:
            yield Problem("privacy.epsilon", "is not given.", "Set privacy.epsilon=1, or privacy=none.")
        elif self.max_epsilon is not None:
            rule = "only has a meaning with privacy.noise_multiplier."
            yield Problem("privacy.max_epsilon", rule, "Set privacy.epsilon alone.")
        for key in ("epsilon", "max_epsilon"):
            yield from _above(f"privacy.{key}", getattr(self, key), 0.0)
        if self.lifetime_delta is not None and not self.delta <= self.lifetime_delta < 1.0:
            rule = f"Expected lifetime_delta={self.lifetime_delta} in [delta, 1), delta={self.delta:g}."
            yield Problem("privacy.lifetime_delta", rule, "Set it to null, or to at least privacy.delta.")
        if not 1e-10 <= self.delta < 1.0:
            rule = f"Expected delta={self.delta} in [1e-10, 1)."
            yield Problem("privacy.delta", rule, "Take a value well below 1 / number of units, such as 1e-5.")
        names = ("count_share", "columns_share", "marginals_share", "validation_share")
        shares = [0.1 if getattr(self, name) is None else getattr(self, name) for name in names]
        for key, share in zip(names, shares):
            if not 0.0 <= share < 1.0:
                yield Problem(f"privacy.{key}", f"Expected {share} in [0, 1).", "Shares are fractions.")
        if sum(shares) >= 1.0:
            rule = f"The shares add up to {sum(shares):g}; training would get nothing."
            yield Problem("privacy.columns_share", rule, "Lower a share.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How private networks are trained (conf/training). All public.

    Args:
      steps: optimiser steps; null means from `epochs`.
      epochs: expected passes over the units, steps = epochs / sample_rate; used when `steps` is null.
      expected_batch_size: units per step on average. Needs the schema's public `num_units`; null means from
        `sample_rate`.
      sample_rate: probability that a unit takes part in a step; used when `expected_batch_size` is null.
      max_grad_norm: L2 bound of one unit's gradient.
      physical_batch_size: units per forward pass, or "auto"; bounds memory and changes nothing else.
      backend: "fast" (book-keeping), "opacus_ghost", "opacus_hooks" or "vmap".
      device: "cpu" or "cuda".
      threads: CPU threads of this job, or "auto" for torch's own choice, which is all cores. One is right
        for these small networks, above all beside other jobs.
      resident_mb: encoded units that take more megabytes than this are kept in a file and read by number.
      schedule: learning rate over steps: "constant", "linear" or "cosine"; never by a private loss.
      warmup_steps: steps over which the learning rate rises from 0.
      ema_decay: decay of the average of released weights; 0 releases the last weights. Free.
      gradient_accumulation: batches per step, without privacy only.
      checkpoint_every: steps between checkpoints; 0 writes none.
      validation_share: of the units, held out; without privacy only.
      public_validation: a file of the table's schema whose rows are public, to validate on instead.
      validation_every: steps between two looks at the validation loss.
      early_stop_delta: stop when three looks in a row improve the loss by less; null never stops. With
        privacy it needs `public_validation` or `privacy.validation_share`.
      warm_start: "anchored" trains the private network on rows of the generator that was fitted to bought
        histograms, before it sees a unit; free. "none" leaves that out.
      warm_start_steps: of it.
      ladder: budgets below the declared epsilon at which the one training gives a release on its way; what is
        bought before training is priced for the lowest of them.
    """

    steps: int | None = None
    epochs: float | None = 30.0
    expected_batch_size: int | None = None
    sample_rate: float | None = 0.05
    max_grad_norm: float = 1.0
    physical_batch_size: int | Literal["auto"] = "auto"
    backend: Literal["fast", "opacus_ghost", "opacus_hooks", "vmap"] = "fast"
    device: str = "cpu"
    threads: int | Literal["auto"] = 1
    resident_mb: float = 4096.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    ema_decay: float = 0.0
    gradient_accumulation: int = 1
    checkpoint_every: int = 0
    validation_share: float = 0.0
    public_validation: str | None = None
    validation_every: int = 100
    early_stop_delta: float | None = None
    warm_start: Literal["none", "anchored"] = "none"
    warm_start_steps: int = 300
    ladder: tuple[float, ...] = ()

    def __post_init__(self):
        if problems := list(self._problems()):
            raise InvalidInput("training", problems)

    def ladder_problems(self, privacy: PrivacyConfig) -> Iterator[Problem]:
        """Says what keeps the rungs from leading up to this budget."""
        rungs, top = self.ladder, privacy.total_epsilon
        if not rungs:
            return
        if not privacy.private:
            rule = "has rungs of epsilon, but there is no privacy."
            yield Problem("training.ladder", rule, "Set it to [] or take privacy=dp.")
        elif list(rungs) != sorted(set(rungs)) or not 0.0 < rungs[0] or not rungs[-1] < top:
            shown = ", ".join(f"{rung:g}" for rung in rungs)
            rule = f"Expected the rungs {shown} to rise from above 0 to below privacy.epsilon={top:g}."
            yield Problem("training.ladder", rule, "Write training=ladder privacy.epsilon=1,2,4,8.")
        if self.early_stop_delta is not None or privacy.validation_share > 0.0:
            rule = (
                "does not go with looks at the loss: they are planned for one budget, and may stop below it."
            )
            fix = "Set training.early_stop_delta=null and privacy.validation_share=0."
            yield Problem("training.ladder", rule, fix)

    def _problems(self) -> Iterator[Problem]:
        if self.steps is None and self.epochs is None:
            yield Problem("training.steps", "and training.epochs are both null.", "Set one of them.")
        if self.expected_batch_size is None and self.sample_rate is None:
            rule = "and training.sample_rate are both null."
            yield Problem("training.expected_batch_size", rule, "Set one of them.")
        for key in (
            "steps",
            "epochs",
            "expected_batch_size",
            "max_grad_norm",
            "resident_mb",
        ):
            yield from _above(f"training.{key}", getattr(self, key), 0)
        if self.warm_start not in ("none", "anchored"):
            rule = f"Expected {self.warm_start!r} to be none or anchored."
            yield Problem("training.warm_start", rule, "Use none.")
        for key in ("gradient_accumulation", "validation_every", "warm_start_steps"):
            yield from _above(f"training.{key}", getattr(self, key), 0)
        for key in ("warmup_steps", "checkpoint_every", "early_stop_delta"):
            yield from _above(f"training.{key}", getattr(self, key), 0, closed=True)
        if self.sample_rate is not None and not 0.0 < self.sample_rate <= 1.0:
            rule = f"Expected sample_rate={self.sample_rate} in (0, 1]."
            yield Problem("training.sample_rate", rule, "0.01 to 0.1 is usual.")
        for key in ("physical_batch_size", "threads"):
            if getattr(self, key) != "auto":
                yield from _above(f"training.{key}", getattr(self, key), 0)
        if self.public_validation is not None and self.validation_share > 0.0:
            rule = "is given together with training.validation_share."
            yield Problem("training.public_validation", rule, "Set one of them to null or 0.")
        if self.public_validation is not None and not Path(self.public_validation).is_file():
            rule = f"No file {self.public_validation!r}."
            yield Problem("training.public_validation", rule, "Correct the path.")
        for key in ("ema_decay", "validation_share"):
            if not 0.0 <= getattr(self, key) < 1.0:
                yield Problem(
                    f"training.{key}", f"Expected {getattr(self, key)} in [0, 1).", "It is a fraction."
                )


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How a multirun treats its points.

    Args:
      resume: folder of an earlier sweep. Points that finished there are not run again, and a half-trained one
        continues from its checkpoint. None starts afresh.
      selection: "none" runs every point; "private" runs a secret random number of trials, each a point drawn
        at random, and releases the best one alone, at a cost that counts the choice.
      mean_trials, shape, distribution: of the number of trials; see
        `dpsynth.privacy.accounting.selection.Trials`.
      trial: its number; set by the process that draws the trials.
      chosen: how the points' settings are; set by the process that starts them, and certified.
    """

    resume: str | None = None
    selection: Literal["none", "private"] = "none"
    mean_trials: float = 10.0
    shape: float = 1.0
    distribution: Literal["negative_binomial", "poisson"] = "negative_binomial"
    trial: int | None = None
    chosen: Literal["fixed", "grid", "search"] = "fixed"

    def __post_init__(self):
        least = 1.0 if self.distribution == "negative_binomial" else 0.0
        if not (self.mean_trials >= least and self.mean_trials > 0.0):
            raise ValueError(f"Expected sweep.mean_trials={self.mean_trials} of at least {least:g}, above 0.")
        if not self.shape > -1.0:
            raise ValueError(f"Expected sweep.shape={self.shape} above -1; 1 is geometric, 0 logarithmic.")


def _above(where: str, value: Any, bound: float, closed: bool = False) -> Iterator[Problem]:
    if value is None:
        return
    fits = (
        isinstance(value, int | float)
        and math.isfinite(value)
        and (value >= bound if closed else value > bound)
    )
    if not fits:
        rule = f"Expected {value!r} to be a number {'of at least' if closed else 'above'} {bound:g}."
        yield Problem(where, rule, "Correct it.")
