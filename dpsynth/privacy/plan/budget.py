"""How much noise each purchase gets: the shares, and the one unknown that is solved for."""

from __future__ import annotations

import math
from dataclasses import replace

from dp_accounting import dp_event

from dpsynth.errors import InvalidInput, Problem
from dpsynth.privacy.accounting import accountants, calibration
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.plan.guarantee import Guarantee, NonPrivate
from dpsynth.privacy.plan.plan import Plan, PlannedEvent, Request, Rung, TrainingPlan, choice_epsilon
from dpsynth.privacy.plan.problems import rate_and_steps
from dpsynth.privacy.plan.purchases import Purchase

_COLUMNS_SHARE = 0.1
_COLUMNS_SHARE_OF_PAIRS = 0.2  # all pairs are read over cells that these histograms make


def without_privacy(
    purchases: list[Purchase], guarantee: NonPrivate, num_units: int | None, request: Request
) -> Plan:
    """The same purchases without noise, for runs that are stamped NON-PRIVATE."""
    events = [_planned(purchase, 0.0, dp_event.NonPrivateDpEvent()) for purchase in purchases]
    if request.trains:
        training = Purchase(name="training", stage="training", about="no privacy", sensitivity=1.0)
        events.append(_planned(training, 0.0, dp_event.NonPrivateDpEvent()))
    return Plan(
        guarantee=guarantee,
        events=tuple(events),
        training=None,
        epsilon=math.inf,
        num_units=num_units,
        request=request,
    )


def without_private_training(priced: Plan, guarantee: NonPrivate) -> Plan:
    """The same noisy purchases, and training as published; for runs that are stamped NON-PRIVATE."""
    open_event = dp_event.NonPrivateDpEvent()
    events = tuple(
        replace(event, event=open_event, noise_multiplier=0.0, about="no privacy")
        if event.stage == "training"
        else event
        for event in priced.events
    )
    return replace(priced, guarantee=guarantee, events=events, training=None, epsilon=math.inf)


def clipping_alone(training: TrainingConfig, num_units: int | None) -> TrainingPlan:
    """The constants of DP-SGD without its noise; for runs that are stamped NON-PRIVATE."""
    rate, steps = rate_and_steps(training, num_units)
    return TrainingPlan(
        sample_rate=rate,
        steps=steps,
        noise_multiplier=0.0,
        max_grad_norm=training.max_grad_norm,
        expected_batch_size=None if num_units is None else rate * num_units,
        physical_batch_size=training.physical_batch_size,
        backend=training.backend,
        device=training.device,
    )


def _planned(purchase: Purchase, noise_multiplier: float, event: dp_event.DpEvent) -> PlannedEvent:
    facts = {k: v for k, v in vars(purchase).items() if k != "weight"}
    return PlannedEvent(event=event, noise_multiplier=noise_multiplier, **facts)


def solve(
    privacy: PrivacyConfig,
    training: TrainingConfig,
    guarantee: Guarantee,
    purchases: list[Purchase],
    num_units: int | None,
    request: Request,
) -> Plan:
    """Gives every purchase its noise so that the composed epsilon meets the guarantee from below.

    With a ladder, what is bought before training has shares of the lowest rung's budget, since every rung
    is made from it, and training has all of the rest.
    """
    delta = guarantee.delta
    if guarantee.epsilon == 0.0:  # nothing is bought
        return Plan(
            guarantee=guarantee, events=(), training=None, epsilon=0.0, num_units=num_units, request=request
        )
    epsilon = min([guarantee.epsilon, *training.ladder])
    failure = accountants.Ingredients.of(accountants.FailureDpEvent(d.failure) for d in purchases)
    total = _total_noise(epsilon, failure.delta_left(delta))
    shares = _stage_shares(privacy, purchases, request)
    events = _events(purchases, shares, total)
    if any(purchase.choices for purchase in purchases) and not request.trains:

        def cost(factor: float) -> float:
            planned = _events(purchases, shares, total, factor)
            return accountants.pld_epsilon(accountants.Ingredients.of(e.event for e in planned), delta)

        events = _events(purchases, shares, total, calibration.solve_noise(cost, epsilon, 1.02))
    constants, rungs = None, ()
    if request.trains:
        others = [event.event for event in events]
        constants = _training_plan(privacy, training, guarantee, others, num_units)
        for bought in (event for event in events if event.looks):
            each = bought.event.event.noise_multiplier
            constants = replace(constants, validation_looks=bought.looks, validation_noise_multiplier=each)
        rungs = _rungs(training, guarantee, others, constants)
        events.append(training_event(constants))
    composed = accountants.Ingredients.of(event.event for event in events)
    return Plan(
        guarantee=guarantee,
        events=tuple(events),
        training=constants,
        epsilon=accountants.pld_epsilon(composed, delta),
        num_units=num_units,
        request=request,
        rungs=rungs,
    )


def _events(
    purchases: list[Purchase], shares: dict[str, float], total: float, factor: float = 1.0
) -> list[PlannedEvent]:
    """Gives every purchase its part of `total`, the noise of all of them as one Gaussian mechanism.

    Args:
      factor: on the noise of the stage "marginals", since choices do not add up as Gaussians do.
    """
    events = []
    for purchase in purchases:
        weights = sum(other.weight for other in purchases if other.stage == purchase.stage)
        noise = total / math.sqrt(shares[purchase.stage] * purchase.weight / weights)
        noise = _round_up(noise * (factor if purchase.stage == "marginals" else 1.0))
        event = dp_event.GaussianDpEvent(noise)
        if purchase.choices:
            one = accountants.ExponentialMechanismDpEvent(choice_epsilon(noise, purchase.choices))
            event = dp_event.SelfComposedDpEvent(one, purchase.choices)
        if purchase.looks:
            each = _round_up(noise * math.sqrt(purchase.looks))
            event = dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(each), purchase.looks)
            noise = each / math.sqrt(purchase.looks)
        if purchase.failure:
            event = dp_event.ComposedDpEvent([event, accountants.FailureDpEvent(purchase.failure)])
        events.append(_planned(purchase, noise, event))
    return events


def _rungs(
    training: TrainingConfig, guarantee: Guarantee, others: list[dp_event.DpEvent], constants: TrainingPlan
) -> tuple[Rung, ...]:
    """After how many steps, at the one noise multiplier, each budget of the ladder is reached."""
    if not training.ladder:
        return ()
    known = {"sample_rate": constants.sample_rate, "noise_multiplier": constants.noise_multiplier}
    known |= {"max_steps": constants.steps, "delta": guarantee.delta}
    below = [
        Rung(epsilon=rung, steps=calibration.largest_steps(others, epsilon=rung, **known))
        for rung in training.ladder
    ]
    return (*below, Rung(epsilon=guarantee.epsilon, steps=constants.steps))


def _round_up(noise: float) -> float:
    """Six significant digits, away from zero."""
    digits = 5 - math.floor(math.log10(noise))
    return math.ceil(noise * 10.0**digits) / 10.0**digits


def _total_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier of the one Gaussian mechanism that spends the whole budget, by PLD, from below."""

    def cost(noise: float) -> float:
        return accountants.pld_epsilon(accountants.Ingredients.of([dp_event.GaussianDpEvent(noise)]), delta)

    return calibration.solve_noise(
        cost, epsilon, 1.0005 * calibration.gaussian_noise_multiplier(epsilon, delta)
    )


def _stage_shares(privacy: PrivacyConfig, purchases: list[Purchase], request: Request) -> dict[str, float]:
    """Fractions of the budget per stage; the last stage takes what the others leave."""
    columns = privacy.columns_share
    if columns is None:
        pairs = request.num_refined or (request.num_marginals and request.rounds)
        columns = _COLUMNS_SHARE_OF_PAIRS if pairs else _COLUMNS_SHARE
    others = privacy.count_share + columns + privacy.validation_share
    usual = min(0.8, 0.9 * (1.0 - others)) if request.trains else 1.0
    configured = {
        "count": privacy.count_share,
        "columns": columns,
        "validation": privacy.validation_share,
        "marginals": privacy.marginals_share or usual,
    }
    stages = list(dict.fromkeys(purchase.stage for purchase in purchases))
    shares = {stage: configured[stage] for stage in stages}
    if not request.trains:
        last = stages[-1]
        shares[last] = 1.0 - sum(share for stage, share in shares.items() if stage != last)
    return shares


def _training_plan(
    privacy: PrivacyConfig,
    training: TrainingConfig,
    guarantee: Guarantee,
    others: list[dp_event.DpEvent],
    num_units: int | None,
) -> TrainingPlan:
    rate, steps = rate_and_steps(training, num_units)
    budget = {"sample_rate": rate, "epsilon": guarantee.epsilon, "delta": guarantee.delta}
    noise = privacy.noise_multiplier
    if noise is None:
        noise = calibration.training_noise_multiplier(others, steps=steps, **budget)
    else:
        steps = calibration.largest_steps(others, noise_multiplier=noise, max_steps=steps, **budget)
        if steps == 0:
            rule = f"{noise:g} does not allow a single step within max_epsilon={guarantee.epsilon:g}."
            fix = "Raise it, lower training.sample_rate or raise privacy.max_epsilon."
            raise InvalidInput("the plan", [Problem("privacy.noise_multiplier", rule, fix)])
    return TrainingPlan(
        sample_rate=rate,
        steps=steps,
        noise_multiplier=noise,
        max_grad_norm=training.max_grad_norm,
        expected_batch_size=None if num_units is None else rate * num_units,
        physical_batch_size=training.physical_batch_size,
        backend=training.backend,
        noise=privacy.noise,
        device=training.device,
    )


def training_event(constants: TrainingPlan) -> PlannedEvent:
    """The training event of these constants."""
    step = dp_event.PoissonSampledDpEvent(
        constants.sample_rate, dp_event.GaussianDpEvent(constants.noise_multiplier)
    )
    return PlannedEvent(
        name="training",
        stage="training",
        event=dp_event.SelfComposedDpEvent(step, constants.steps),
        noise_multiplier=constants.noise_multiplier,
        sensitivity=constants.max_grad_norm,
        about=f"{constants.steps} steps of DP-SGD at rate {constants.sample_rate:g}",
    )
