"""DP-SGD on an objective: one plan, one charged event, exactly that many noisy steps.

Generators hand in losses (`dpsynth.privacy.training.objective`); the core owns sampling, clipping, noise and
the optimizer of the private parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dpsynth.data.tables.table import Receipt
from dpsynth.errors import DpsynthError, GuaranteeVoid
from dpsynth.privacy.configs import TrainingConfig
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.noise.secret_draws import SecretDraws
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.backends import make_backend
from dpsynth.privacy.training.checkpoint import Checkpoint
from dpsynth.privacy.training.clipping import BookKeeper
from dpsynth.privacy.training.memory import cpu_threads, physical_batch_size
from dpsynth.privacy.training.objective import PlainObjective, PrivateObjective
from dpsynth.privacy.training.optimizer import FlatDPOptimizer
from dpsynth.privacy.training.progress import Conformance, Progress, TrainingLog
from dpsynth.privacy.training.sampling import PoissonSampler, UnitStore, as_store
from dpsynth.privacy.training.schedule import EarlyStopping, LearningRates, WeightAverage
from dpsynth.privacy.training.unit_separation import validate_objective
from dpsynth.privacy.training.validation_looks import BoughtLook, FreeLook, loss_bound
from dpsynth.privacy.training.without_privacy import train_without_privacy

__all__ = [
    "Checkpoint",
    "Conformance",
    "PlainObjective",
    "PrivateObjective",
    "PrivateStep",
    "Progress",
    "TrainingLog",
    "train",
    "train_without_privacy",
]

_CHECK_EVERY = 100  # steps between looks for diverged parameters


class PrivateStep:
    """One DP-SGD step over units given by number.

    Formal guarantee: given that `index` is a Poisson draw with the plan's rate, a step is one
    Poisson-subsampled Gaussian mechanism with the plan's noise multiplier, followed by post-processing. The
    draws inside `unit_losses` (latents, Dropout) come from generators reseeded from `entropy` at every step,
    so they are independent across units and unknown: the mechanism is a mixture over them of mechanisms of
    sensitivity C.
    Edge cases: an empty `index` adds noise and steps. Cutting the batch into physical batches changes the
    order of draws, not their law, and nothing else.

    Args:
      objective: validated before it gets here.
      plan: with its divisor filled in.
      entropy: noise and the seeds of private draws.
      physical: units per forward pass.
      keeper: the book-keeper of `objective.private`.
    """

    def __init__(
        self,
        objective: PrivateObjective,
        plan: TrainingPlan,
        entropy: Entropy,
        *,
        physical: int,
        keeper: BookKeeper,
    ):
        if plan.expected_batch_size is None or not plan.expected_batch_size > 0.0:
            raise GuaranteeVoid("The plan has no divisor. Buy the count first: plan.with_count(num_units).")
        self.plan = plan
        self.physical = physical
        self.conformance = Conformance(divisor=plan.expected_batch_size)
        self._objective = objective
        self._entropy = entropy
        self._keeper = keeper
        self._backend = make_backend(plan.backend, objective.private, keeper, plan.max_grad_norm)
        self.optimizer = FlatDPOptimizer(
            objective.private_optimizer(),
            keeper.flat,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=plan.expected_batch_size,
            entropy=entropy,
        )
        self._secret_draws = SecretDraws(entropy, plan.device)
        self._num_generated = max(1, round(plan.expected_batch_size))

    def __call__(self, store: UnitStore, index: Tensor, draw: torch.Generator) -> float:
        """Takes the step on the units in `index`; returns their mean loss, which is internal.

        Args:
          draw: public; for terms that read no unit.
        """
        plan, optimizer, stats = self.plan, self.optimizer, self.conformance
        optimizer.zero_grad()
        total = clipped_units = 0.0
        with self._secret_draws() as secret:
            for part in index.split(self.physical) if len(index) else ():
                clipped = self._backend.clipped_sum(
                    lambda units: self._objective.unit_losses(units, secret),  # noqa: B023  called at once
                    store.take(part),
                    plan.max_grad_norm,
                    optimizer.private_sum,
                )
                figures = clipped.summary()
                total += figures[0]
                clipped_units += figures[1]
                stats.max_clipped_norm = max(stats.max_clipped_norm, figures[2])
        with self.paused():
            self._add_public_terms(draw)
            optimizer.step()
            self._objective.after_step()
        stats.steps += 1
        stats.noise_second_moment += optimizer.noise_second_moment
        stats.units_drawn += len(index)
        stats.clipped_share += clipped_units / max(1, len(index))
        return total / len(index) if len(index) else math.nan

    def paused(self):
        """A context in which passes through the private module are not recorded by the back end."""
        return self._backend.paused()

    def close(self) -> None:
        """Takes all hooks off the private module."""
        self._backend.close()

    def _add_public_terms(self, draw: torch.Generator) -> None:
        """Adds the mean of the clipped gradients on fakes, and the plain gradient of the penalty."""
        flat, num = self._keeper.flat, self._num_generated
        for start in range(0, num, self.physical):
            size = min(self.physical, num - start)
            fakes = self._keeper.clipped_sum(
                lambda: self._objective.generated_losses(size, draw),  # noqa: B023  called at once
                size,
                self.plan.max_grad_norm,
                self.optimizer.public_gradient,
                scale=1.0 / num,
            )
            penalty = self._objective.penalty(size, draw)
            if penalty is not None:
                gradients = torch.autograd.grad(penalty * (size / num), flat.parameters, allow_unused=True)
                for view, gradient in zip(self.optimizer.public_views, gradients):
                    if gradient is not None:
                        view.add_(gradient)
            if fakes is None and penalty is None:
                return
            self.optimizer.has_public_terms = True


def train(
    objective: PrivateObjective,
    units: Tensor | UnitStore | Callable[[Receipt], Tensor | UnitStore],
    plan: TrainingPlan,
    ledger: Any,
    entropy: Entropy,
    *,
    seed: int,
    config: TrainingConfig | None = None,
    on_step: Callable[[Progress], None] | None = None,
    checkpoint: Checkpoint | None = None,
    public_validation: Tensor | None = None,
) -> TrainingLog:
    """Trains `objective.private` with DP-SGD for the plan's steps.

    Formal guarantee: everything that leaves (parameters, optimizer state, released module) is a function of
    one `plan.steps`-fold Poisson-subsampled Gaussian event (and, if the plan has any, of its noisy looks at
    the loss), charged to `ledger` before the first unit is read, and of public randomness. The objective is
    validated on made-up units first. Steps, rate, noise, divisor and learning rates are constants of the plan
    and the configuration; training may end early after a bought look, and adapts to nothing else private.
    Edge cases: a table without units trains on noise. A resumed run continues the event it charged, with
    fresh entropy, and is equal in law to one that was never interrupted.

    Args:
      objective: satisfies `PrivateObjective`.
      units: private; encoded units, or, so that charge and read are one call, a function that reads them
        against the receipt.
      plan: public constants; the divisor must be filled in.
      ledger: is charged its event "training", and before it "validation", where the plan has looks.
      entropy: coins and noise.
      seed: public: latents, generator steps, initial dropout of the generator.
      config: public controls: schedule, weight average, validation, threads.
      on_step: called after each step.
      checkpoint: where to write states, and to resume from if one is there.
      public_validation: units that may be read freely; with them, training may stop early.
    Raises:
      InvalidInput, GuaranteeVoid: the objective breaks a promise; nothing was charged.
      BudgetExceeded: the ledger refuses; nothing was read.
    """
    config = config or TrainingConfig()
    _refuse_unsound(config, plan, public_validation)
    device = torch.device(plan.device)
    with _job_settings(config, device, seed):
        objective.private.train()
        keeper = BookKeeper(objective.private)
        try:
            validate_objective(objective, keeper, device=plan.device, seed=seed)
            physical = physical_batch_size(plan, objective, seed=seed)
            step = PrivateStep(objective, plan, entropy, physical=physical, keeper=keeper)
            return _run(step, objective, units, ledger, seed, config, on_step, checkpoint, public_validation)
        finally:
            keeper.close()


def _run(
    step: PrivateStep, objective, units, ledger, seed, config, on_step, checkpoint, public_validation
) -> TrainingLog:
    from opacus.accountants import RDPAccountant

    plan = step.plan
    draw = torch.Generator(plan.device).manual_seed(seed)
    rates = LearningRates(objective, config, plan.steps)
    average = WeightAverage(objective, config.ema_decay)
    look = None if public_validation is None else FreeLook(objective, public_validation, seed)
    stopping = EarlyStopping(look, config)
    parts = {"draw": draw, "average": average, "stopping": stopping}
    saved = checkpoint.read(ledger.id, plan) if checkpoint else None
    if plan.validation_looks:
        bound = loss_bound(objective, device=plan.device, seed=seed)  # before any step, also when resumed
        ledger.charge("validation")
    receipt = ledger.charge("training")
    start = checkpoint.resume(saved, objective, parts, receipt) if saved else 0
    if step._entropy.voids:
        ledger.void("training drew fixed noise, which is for tests")
    store = as_store(units(receipt) if callable(units) else units, plan.device)
    if plan.validation_looks:
        stopping.look = BoughtLook(objective, store, plan, step._entropy, physical=step.physical, bound=bound)
    sampler = PoissonSampler(len(store), plan.sample_rate, step._entropy)
    accountant = RDPAccountant()
    step.optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(plan.sample_rate))
    step.conformance.num_units = len(store)
    losses, done, began = [], start, time.perf_counter()
    if checkpoint and checkpoint.due(done, plan.steps):
        checkpoint.save(done, objective, parts, receipt, plan)
    try:
        while done < plan.steps and not stopping.stopped:
            rates.set(done)
            losses.append(step(store, sampler.draw(), draw))
            with step.paused():
                objective.public_step(done, draw)
                average.update()
                done += 1
                stopping.after(done)
            if done % _CHECK_EVERY == 0 or done == plan.steps:
                _check_finite(objective.private)
            if checkpoint and checkpoint.due(done, plan.steps):
                checkpoint.save(done, objective, parts, receipt, plan)
            if on_step:
                on_step(Progress(steps_done=done, steps=plan.steps, internal={"loss": losses[-1]}))
    finally:
        step.close()
    _check_accounted(accountant, plan, done - start)
    average.apply()
    return TrainingLog(
        steps=done,
        resumed_at=start,
        divisor=plan.expected_batch_size,
        physical_batch_size=step.physical,
        num_parameters=step._keeper.flat.size,
        seconds=time.perf_counter() - began,
        losses=losses,
        validation_losses=stopping.losses,
        conformance=step.conformance,
    )


def _refuse_unsound(config: TrainingConfig, plan: TrainingPlan, public_validation: Tensor | None) -> None:
    if config.gradient_accumulation != 1:
        raise GuaranteeVoid(
            f"Expected training.gradient_accumulation={config.gradient_accumulation} to be 1 under privacy: "
            "several Poisson batches per step are not the event that is charged. To save memory, lower "
            "training.physical_batch_size; to average over more units, raise training.expected_batch_size."
        )
    if public_validation is not None and plan.validation_looks:
        raise GuaranteeVoid("Either buy looks at the loss, or give public units to look at; not both.")
    if plan.steps < 1:
        raise GuaranteeVoid(f"Expected steps={plan.steps} of at least 1.")


@contextmanager
def _job_settings(config: TrainingConfig, device: torch.device, seed: int) -> Iterator[None]:
    """Threads, no mixed precision, and a global generator seeded for public use; all put back after."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with (
        cpu_threads(config.threads),
        torch.random.fork_rng(devices=devices),
        torch.autocast(device.type, enabled=False),
    ):
        torch.manual_seed(seed)
        yield


def _check_finite(module: nn.Module) -> None:
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        raise DpsynthError(
            "Training diverged: a weight is not finite. Lower the learning rate or the penalty."
        )


def _check_accounted(accountant, plan: TrainingPlan, steps: int) -> None:
    """Holds what Opacus' accountant saw against the plan."""
    expected = [(plan.noise_multiplier, plan.sample_rate, steps)] if steps else []
    if accountant.history != expected:
        raise GuaranteeVoid(
            "Opacus' accountant saw other steps than the plan's. The event would not cover them."
        )
