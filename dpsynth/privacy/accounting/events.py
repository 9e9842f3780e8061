"""Events as JSON and back: the kinds that a ledger may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent


def event_to_dict(event: DpEvent) -> dict[str, Any]:
    """JSON-able form of the events that plans are made of."""
    name = type(event).__name__
    if name == "GaussianDpEvent":
        return {"type": "gaussian", "noise_multiplier": event.noise_multiplier}
    if name == "PoissonSampledDpEvent":
        rate = event.sampling_probability
        return {"type": "poisson_sampled", "sample_rate": rate, "event": event_to_dict(event.event)}
    if name == "SelfComposedDpEvent":
        return {"type": "self_composed", "count": event.count, "event": event_to_dict(event.event)}
    if name == "ComposedDpEvent":
        return {"type": "composed", "events": [event_to_dict(part) for part in event.events]}
    if name == "ExponentialMechanismDpEvent":
        return {"type": "exponential_mechanism", "epsilon": event.epsilon}
    if name == "FailureDpEvent":
        return {"type": "failure", "delta": event.delta}
    if name == "NonPrivateDpEvent":
        return {"type": "non_private"}
    raise ValueError(f"{name} has no place in a ledger.")


def event_from_dict(content: Mapping[str, Any]) -> DpEvent:
    """The inverse of `event_to_dict`."""
    from dp_accounting import dp_event

    from dpsynth.privacy.accounting import accountants

    kind = content["type"]
    if kind == "gaussian":
        return dp_event.GaussianDpEvent(content["noise_multiplier"])
    if kind == "poisson_sampled":
        return dp_event.PoissonSampledDpEvent(content["sample_rate"], event_from_dict(content["event"]))
    if kind == "self_composed":
        return dp_event.SelfComposedDpEvent(event_from_dict(content["event"]), content["count"])
    if kind == "composed":
        return dp_event.ComposedDpEvent([event_from_dict(part) for part in content["events"]])
    if kind == "exponential_mechanism":
        return accountants.ExponentialMechanismDpEvent(content["epsilon"])
    if kind == "failure":
        return accountants.FailureDpEvent(content["delta"])
    if kind == "non_private":
        return dp_event.NonPrivateDpEvent()
    raise ValueError(f"A ledger names an unknown event type {kind!r}.")
