"""What does not go together in a plan, found before anything is read or charged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dpsynth.errors import Problem
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import Request


def plan_problems(
    privacy: PrivacyConfig, training: TrainingConfig, request: Request, num_units: int | None
) -> Iterator[Problem]:
    """Every reason why there is no plan; reads public facts alone."""
    yield from training.ladder_problems(privacy)
    yield from _warm_start_problems(privacy, training, request)
    if not privacy.private:
        if request.trains and training.early_stop_delta is not None and not _validates_freely(training):
            fix = "Hold units out by training.validation_share, give training.public_validation, or set null."
            yield Problem("training.early_stop_delta", "has no validation loss to go by.", fix)
        return
    if training.ladder and not request.trains:
        rule = "needs a generator that trains: this one spends its budget in one purchase."
        yield Problem("training.ladder", rule, "Sweep privacy.epsilon with -m instead.")
    if num_units is None and privacy.count_share == 0.0:
        fix = "Raise it to 0.01, or declare the schema's num_units (approximate will do)."
        yield Problem("privacy.count_share", "is 0, but the number of units has to be bought.", fix)
    if privacy.columns_share == 0.0 and (request.trains or request.num_marginals or request.rounds):
        yield Problem("privacy.columns_share", "is 0, but histograms have to be bought.", "Raise it to 0.1.")
    if not request.trains:
        return
    if training.expected_batch_size is not None:
        if num_units is None:
            rule = "needs the schema's num_units, since the exact number of units is private."
            fix = "Declare num_units (approximate will do), or set training.sample_rate and leave this null."
            yield Problem("training.expected_batch_size", rule, fix)
        elif training.expected_batch_size > num_units:
            rule = f"Expected {training.expected_batch_size} to be at most num_units={num_units}."
            yield Problem("training.expected_batch_size", rule, "Lower it.")
    if training.gradient_accumulation != 1:
        rule = "would change what is charged."
        fix = "Raise training.expected_batch_size; training.physical_batch_size bounds memory."
        yield Problem("training.gradient_accumulation", rule, fix)
    yield from _validation_problems(privacy, training, request, num_units)


def _warm_start_problems(
    privacy: PrivacyConfig, training: TrainingConfig, request: Request
) -> Iterator[Problem]:
    if training.warm_start == "none":
        return
    if privacy.name in ("none", "encoding"):
        rule = "is for private training, and there is none."
        yield Problem("training.warm_start", rule, "Set it to none, or take privacy=dp.")
    elif not (request.trains and (request.num_marginals or request.rounds)):
        rule = "needs a network to train, and joint histograms that its generator is fitted to before."
        fix = "Set it to none, or take a generator that is anchored and trains, such as tvae."
        yield Problem("training.warm_start", rule, fix)


def _validates_freely(training: TrainingConfig) -> bool:
    return training.validation_share > 0.0 or training.public_validation is not None


def _validation_problems(
    privacy: PrivacyConfig, training: TrainingConfig, request: Request, num_units: int | None
) -> Iterator[Problem]:
    bought, public = privacy.validation_share > 0.0, training.public_validation is not None
    if training.validation_share > 0.0:
        rule = "would read private units without paying."
        fix = "Set it to 0; give training.public_validation, or buy noisy losses by privacy.validation_share."
        yield Problem("training.validation_share", rule, fix)
    if training.early_stop_delta is not None and not (bought or public):
        rule = "needs a loss that is public or bought."
        fix = "Set it to null, or training.public_validation or privacy.validation_share to a value."
        yield Problem("training.early_stop_delta", rule, fix)
    if not bought:
        return
    if public:
        rule = "is given together with training.public_validation, which is free."
        yield Problem("privacy.validation_share", rule, "Set one of them to 0 or null.")
    if not request.validates:
        rule = "buys noisy means of a loss, but this generator has no loss per unit that says how good it is."
        yield Problem("privacy.validation_share", rule, "Set it to 0, or give training.public_validation.")
    if rate_and_steps(training, num_units)[1] < training.validation_every:
        rule = (
            f"Expected {training.validation_every} to be at most the number of steps: nothing is looked at."
        )
        yield Problem("training.validation_every", rule, "Lower it, or set privacy.validation_share to 0.")


def rate_and_steps(training: TrainingConfig, num_units: int | None) -> tuple[float, int]:
    """The sampling rate and the number of steps that are asked for."""
    rate = training.sample_rate
    if training.expected_batch_size is not None and num_units is not None:
        rate = training.expected_batch_size / num_units
    if training.steps is not None:
        return rate, training.steps
    return rate, max(1, round(training.epochs / rate)) if rate else 1
