from __future__ import annotations

import math

import pytest

from dpsynth.privacy.plan.guarantee import Guarantee, NonPrivate


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -1.0},
        {"epsilon": math.inf},
        {"epsilon": math.nan},
        {"delta": 0.0},
        {"delta": 1.0},
        {"max_rows": 0},
        {"neighbours": "replace_one"},
    ],
)
def test_a_promise_without_meaning_cannot_be_made(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Guarantee(**{"epsilon": 1.0, "delta": 1e-5, **wrong})


@pytest.mark.parametrize(
    ("epsilon", "band"), [(1.0, "strong"), (1.01, "medium"), (10.0, "medium"), (11.0, "weak")]
)
def test_bands(epsilon, band):
    assert Guarantee(epsilon=epsilon, delta=1e-5).band == band


def test_no_privacy_says_so():
    assert NonPrivate().claim == "NON-PRIVATE"
    assert NonPrivate().epsilon == math.inf
    assert not NonPrivate().private
    assert Guarantee(epsilon=1.0, delta=1e-5).claim == "epsilon=1, delta=1e-05"
