"""The plan for people: what is bought, how noisy it is, what it adds up to, and what looks unwise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dpsynth.data.wording import up
from dpsynth.privacy.plan.plan import Plan, PlannedEvent

_CELLS = 32  # coarse cells per column, the default of `measure`
_FLOPS = 3.5e10  # of one core in float32 matrix products; measured on DP-SGD steps of MLPs
_SECONDS_PER_PARAMETER = 1.2e-8  # noise and optimiser, per step


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Something unwise about a plan, and what to do about it."""

    problem: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.problem} {self.suggestion}"


def describe_plan(plan: Plan, num_columns: int | None = None) -> str:
    """The whole plan as text: events, shares, epsilon after each, guesses, band, warnings.

    Formal guarantee: reads public facts alone.

    Args:
      num_columns: modelled columns, for the memory guess.
    """
    guarantee = plan.guarantee
    unit = f"one {guarantee.unit}" + (
        f" with at most {guarantee.max_rows} rows" if guarantee.max_rows > 1 else ""
    )
    protects = f"Protects {unit}, added or removed" if plan.private else "Protects nobody"
    lines = [
        f"Claim: {guarantee.claim}. {protects}. Band: {guarantee.band}.",
        "",
        *(_event_table(plan) if plan.events else ["Buys nothing: no private row is read."]),
    ]
    if plan.private and plan.events:
        lines += [
            "",
            f"All together: epsilon={up(plan.epsilon)} of {up(guarantee.epsilon)}, "
            f"delta={up(guarantee.delta)}.",
        ]
    if plan.training is not None:
        lines += ["", *_training_lines(plan, num_columns)]
    if plan.rungs:
        rungs = ", ".join(f"epsilon={up(rung.epsilon)} after {rung.steps} steps" for rung in plan.rungs)
        lines.append(f"Ladder, one noise multiplier for all: {rungs}.")
    advice = list(warnings(plan))
    if advice:
        lines += ["", "Warnings:", *(f"  - {item}" for item in advice)]
    return "\n".join(lines)


def _event_table(plan: Plan) -> list[str]:
    head = ("event", "noise multiplier", "noise stddev", "share", "epsilon after", "noise / signal", "buys")
    rows = [head]
    for event, share, after in zip(plan.events, _shares(plan), _epsilon_after(plan)):
        ratio = noise_to_signal(plan, event)
        rows.append(
            (
                event.name,
                f"{event.noise_multiplier:.4g}",
                f"{event.noise_stddev:.4g}",
                f"{share:.1%}",
                up(after, 5) if math.isfinite(after) else "infinite",
                "?" if ratio is None else f"{ratio:.2g}",
                event.about,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]


def _shares(plan: Plan) -> list[float]:
    """Fractions of the budget in units of 1 / noise_multiplier**2; training has what the others leave."""
    if not plan.private:
        return [0.0 for _ in plan.events]
    from dpsynth.privacy.accounting.calibration import gaussian_noise_multiplier

    total = gaussian_noise_multiplier(plan.guarantee.epsilon, plan.guarantee.delta) ** -2
    parts = [e.noise_multiplier**-2 / total if e.stage != "training" else 0.0 for e in plan.events]
    return [1.0 - sum(parts) if e.stage == "training" else part for e, part in zip(plan.events, parts)]


def _epsilon_after(plan: Plan) -> list[float]:
    from dpsynth.privacy.accounting.accountants import Ingredients, pld_epsilon

    if not plan.private:
        return [math.inf for _ in plan.events]
    events = [event.event for event in plan.events]
    return [pld_epsilon(Ingredients.of(events[: k + 1]), plan.guarantee.delta) for k in range(len(events))]


def noise_to_signal(plan: Plan, event: PlannedEvent) -> float | None:
    """Noise over what is measured, from public facts; None where a fact is missing.

    The count: noise over the number of units. Looks at the loss: one look's noise over the bound.
    Histograms: noise over the rows in an average coarse cell.
    Training: length of the noise vector over the longest possible sum of a step's gradients.
    """
    if plan.num_units is None:
        return None
    if event.stage == "training":
        if plan.training is None or plan.request.num_parameters is None:
            return None
        batch = plan.training.sample_rate * plan.num_units
        return plan.training.noise_multiplier * math.sqrt(plan.request.num_parameters) / batch
    if event.choices:
        return None
    if event.stage == "count":
        return event.noise_stddev / plan.num_units
    if event.stage == "validation":
        each = plan.training and plan.training.validation_noise_multiplier
        return each / plan.num_units if each else None
    cells = _CELLS**2 if event.stage == "marginals" else _CELLS
    return event.noise_stddev * cells / plan.num_units


def _training_lines(plan: Plan, num_columns: int | None) -> Iterator[str]:
    training = plan.training
    batch = training.expected_batch_size
    size = f"{batch:.0f}" if batch is not None else "rate x the bought count"
    yield (
        f"Training: {training.steps} steps, rate {training.sample_rate:g} (expected batch {size}), clipping "
        f"norm {training.max_grad_norm:g}, noise multiplier {training.noise_multiplier:g}, "
        f"back end {training.backend}."
    )
    parameters, units = plan.request.num_parameters, plan.num_units
    if parameters is None or units is None:
        missing = "the schema's num_units" if units is None else "the size of the network"
        size = "" if parameters is None else f" {parameters:,} private parameters."
        yield f"Time and memory: unknown without {missing}.{size}"
        return
    expected = training.sample_rate * units
    step = 6.0 * expected * parameters / _FLOPS + _SECONDS_PER_PARAMETER * parameters
    physical = expected if training.physical_batch_size == "auto" else training.physical_batch_size
    table = 4 * units * plan.guarantee.max_rows * (num_columns or 0)
    memory = 4 * (6 * parameters + 12 * min(physical, expected) * math.sqrt(parameters)) + table
    yield (
        f"Guess on one core: {step * 1e3:.0f} ms per step, {step * training.steps:.0f} s in all, "
        f"{memory / 1e6:.0f} MB beside the libraries, {parameters:,} private parameters."
    )


def warnings(plan: Plan) -> Iterator[Advice]:
    """What is unwise, each with a suggestion."""
    if not plan.private:
        yield Advice(
            problem="This run has no privacy: it may memorise and give away rows.",
            suggestion="Set privacy=dp unless the table is public.",
        )
        return
    units, delta = plan.num_units, plan.guarantee.delta
    if units is None:
        yield Advice(
            problem="The public number of units is unknown, so sizes cannot be judged and a count is bought.",
            suggestion="Declare num_units in the schema; an approximate value will do.",
        )
    if delta > 0.1 / (units or 1_000):
        bound = f"1 / {units:,} units" if units else "1 / 1,000 units"
        exponent = math.floor(math.log10(0.1 / (units or 1_000)))
        yield Advice(
            problem=f"delta={delta:g} is not well below {bound}: it would permit giving some people away.",
            suggestion=f"Set privacy.delta=1e{exponent}.",
        )
    if plan.guarantee.band == "weak":
        yield Advice(
            problem=f"epsilon={plan.guarantee.epsilon:g} is a weak promise.",
            suggestion="Audit the release, or set privacy.epsilon to 10 or less.",
        )
    for rung in plan.rungs:
        if rung.steps == 0:
            yield Advice(
                problem=f"The rung epsilon={up(rung.epsilon)} comes before the first step of training.",
                suggestion="Raise training.epochs, or leave the rung out.",
            )
    yield from _size_warnings(plan)


def _size_warnings(plan: Plan) -> Iterator[Advice]:
    histograms = None
    if "columns/histograms" in plan:
        histograms = noise_to_signal(plan, plan.event("columns/histograms"))
    if histograms is not None and histograms > 1.0:
        yield Advice(
            problem=f"Noise is {histograms:.1f} times the content of an average cell: too few units.",
            suggestion="Raise privacy.columns_share or privacy.epsilon, or drop columns.",
        )
    if plan.training is None or plan.num_units is None:
        return
    batch = plan.training.sample_rate * plan.num_units
    if batch < 100:
        yield Advice(
            problem=f"An expected batch of {batch:.0f} units is too small: noise is shared by few.",
            suggestion=f"Set training.sample_rate={min(1.0, 200 / plan.num_units):.2g} or more.",
        )
    ratio = noise_to_signal(plan, plan.event("training"))
    if ratio is not None and ratio > 5.0:
        yield Advice(
            problem=f"A step's noise is {ratio:.0f} times its gradient sum: too few units for this model.",
            suggestion="Take a smaller model, a larger training.sample_rate, or generator=independent.",
        )
