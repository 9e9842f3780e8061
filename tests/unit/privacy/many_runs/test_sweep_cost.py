"""Statements about sweeps hold against closed forms, brute force and a second implementation."""

from __future__ import annotations

import math

import pytest
from dp_accounting import dp_event

from dpsynth.privacy.accounting.calibration import gaussian_delta
from dpsynth.privacy.accounting.events import event_to_dict
from dpsynth.privacy.many_runs.sweep_cost import sweep_cost

DELTA = 1e-5


def ledger(*noise: float, delta: float = DELTA, charged: int | None = None) -> list[dict]:
    """The records of a run that bought one Gaussian per noise multiplier."""
    events = [
        {"name": f"e{i}", "event": event_to_dict(dp_event.GaussianDpEvent(z))} for i, z in enumerate(noise)
    ]
    head = {"kind": "plan", "plan": {"events": events, "guarantee": {"delta": delta}}}
    return [head, *({"kind": "charge", "event": f"e{i}"} for i in range(len(noise))[:charged])]


def gaussian_epsilon(noise_multiplier: float) -> float:
    """Closed form, by bisection on the exact delta of one Gaussian mechanism."""
    low, high = 0.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(noise_multiplier, middle) > DELTA else (low, middle)
    return high


def test_one_is_the_costliest_and_all_is_the_composition():
    cost = sweep_cost([ledger(5.0), ledger(2.0), ledger(4.0, 4.0)])
    # Gaussian mechanisms compose to one: 1 / z**2 add up.
    together = (1 / 25 + 1 / 4 + 2 / 16) ** -0.5
    assert cost.num_runs == 3
    assert gaussian_epsilon(2.0) <= cost.one <= 1.005 * gaussian_epsilon(2.0)
    assert gaussian_epsilon(together) <= cost.all <= 1.005 * gaussian_epsilon(together)
    assert cost.one <= cost.best <= 4 * cost.one


def test_only_what_was_charged_counts():
    half = sweep_cost([ledger(3.0, 0.1, charged=1)])
    assert half.all == pytest.approx(sweep_cost([ledger(3.0)]).all)
    nothing = sweep_cost([ledger(3.0, charged=0)])
    assert (nothing.num_runs, nothing.one, nothing.all, nothing.best) == (0, 0.0, 0.0, 0.0)
    assert sweep_cost([]).num_runs == 0


def test_a_run_without_privacy_makes_every_statement_infinite():
    record = ledger(1.0)
    record[0]["plan"]["events"][0]["event"] = {"type": "non_private"}
    cost = sweep_cost([ledger(2.0), record])
    assert math.isinf(cost.one) and math.isinf(cost.all) and math.isinf(cost.best)
