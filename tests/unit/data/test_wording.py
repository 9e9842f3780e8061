"""What is printed of a claim is never below it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.data.wording import up
from dpsynth.privacy.many_runs.sweep_cost import SweepCost
from dpsynth.privacy.plan.guarantee import Guarantee
from dpsynth.privacy.release.certificate import claim


@given(st.floats(min_value=1e-12, max_value=1e9), st.integers(min_value=2, max_value=9))
def test_text_is_never_below_the_number_and_close_to_it(value, digits):
    text = float(up(value, digits))
    assert value <= text <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-15)


@pytest.mark.parametrize("text", ["1", "0.5", "1e-05", "8.25", "0", "123456", "inf"])
def test_what_was_written_comes_back_as_it_was_written(text):
    assert up(float(text)) == text


def stated(text: str) -> list[float]:
    return [float(part.split("=")[1].rstrip(".")) for part in text.replace(",", "").split() if "=" in part]


@pytest.mark.parametrize("epsilon", [1.0000001, 1.00000049, math.nextafter(2.0, 3.0), 0.1234561])
def test_claims_round_up(epsilon):
    assert float(f"{epsilon:g}") < epsilon  # as it was printed before
    facts = {"epsilon": epsilon, "delta": 1.0000001e-5}
    plan = {"private": True, "guarantee": facts}
    for text in (Guarantee(**facts).claim, claim(plan, [])):
        assert stated(text)[0] >= epsilon and stated(text)[1] >= facts["delta"]


def test_the_cost_of_a_sweep_rounds_up():
    facts = {"one": 1.00001, "all": 2.00001, "best": 3.00001, "mean_trials": 10.0, "shape": 1.0}
    text = SweepCost(num_runs=2, delta=1e-5, **facts).text()
    assert all(f"epsilon={epsilon}" in text for epsilon in (1.001, 2.001, 3.001))
