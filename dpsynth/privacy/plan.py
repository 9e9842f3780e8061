"""The plan: how one declared (epsilon, delta) is split, fixed before anything private is read."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """What the user declares (conf/privacy). All public.

    Args:
      name: "dp", or "none" for an explicit run without privacy.
      epsilon: the total budget; the training noise is solved for it. Null when `noise_multiplier` is given.
      delta: probability of failure, well below 1 / number of units.
      noise_multiplier: of training, noise stddev over clipping norm; `max_epsilon` then sets the steps.
      max_epsilon: the total budget when `noise_multiplier` is given: training stops before the step that
        would exceed it.
      count_share, columns_share, marginals_share: fractions of the budget in units of 1 / noise_multiplier**2
        (what Gaussian mechanisms add up when they compose). The rest is for training; a share that is not
        needed goes to training, or, without training, to the columns.
      noise: "aes" or "torch"; the certificate names it.
    """

    name: str = "dp"
    epsilon: float | None = 1.0
    delta: float = 1e-5
    noise_multiplier: float | None = None
    max_epsilon: float | None = None
    count_share: float = 0.01
    columns_share: float = 0.1
    marginals_share: float = 0.0
    noise: str = "aes"


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
      threads: CPU threads of this job; null leaves torch's own choice.
      schedule: learning rate over steps: "constant", "linear" or "cosine"; never by a private loss.
      warmup_steps: steps over which the learning rate rises from 0.
      ema_decay: decay of the average of released weights; 0 releases the last weights. Free.
      gradient_accumulation: batches per step, without privacy only.
      generation_batch_size: rows per forward pass when sampling.
      checkpoint_every: steps between checkpoints; 0 writes none.
      validation_share, validation_every, early_stop_delta: without privacy only.
    """

    steps: int | None = None
    epochs: float | None = 30.0
    expected_batch_size: int | None = None
    sample_rate: float | None = 0.05
    max_grad_norm: float = 1.0
    physical_batch_size: int | str = "auto"
    backend: str = "fast"
    device: str = "cpu"
    threads: int | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    ema_decay: float = 0.0
    gradient_accumulation: int = 1
    generation_batch_size: int = 8192
    checkpoint_every: int = 0
    validation_share: float = 0.0
    validation_every: int = 100
    early_stop_delta: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Constants of one training run; the sampler, the clip, the noise and the charged event all read them.

    Args:
      sample_rate: per unit and step.
      steps: exactly this many are charged; a run may not take more.
      noise_multiplier: noise stddev over `max_grad_norm` (no unit), for the sum of clipped gradients.
      max_grad_norm: L2 bound of one unit's gradient.
      expected_batch_size: the divisor of the noisy sum, sample_rate times the public or bought number of
        units. A scale, not part of the event; None until the count has been bought.
      physical_batch_size, backend, noise, device: as configured.
    """

    sample_rate: float
    steps: int
    noise_multiplier: float
    max_grad_norm: float
    expected_batch_size: float | None
    physical_batch_size: int | str = "auto"
    backend: str = "fast"
    noise: str = "aes"
    device: str = "cpu"

    @property
    def noise_stddev(self) -> float:
        """Of the noise added to the sum of clipped gradients, in gradient units."""
        return self.noise_multiplier * self.max_grad_norm

    def with_count(self, num_units: float) -> TrainingPlan:
        """Fills the divisor from a bought (or public) number of units; a public divisor stays."""
        if self.expected_batch_size is not None:
            return self
        return replace(self, expected_batch_size=max(1.0, self.sample_rate * num_units))
