"""One budget, split before the first read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.data.schema import Categorical, Continuous, Identifier, Integer, Schema, Unit
from dpsynth.errors import InvalidInput
from dpsynth.privacy.accounting.accountants import Ingredients, pld_epsilon
from dpsynth.privacy.accounting.calibration import gaussian_noise_multiplier
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request
from dpsynth.privacy.plan.pricing import describe_plan, warnings

CLOSED = Schema(columns=(Integer(name="age", min=0, max=9), Categorical(name="sex", values=("f", "m"))))
OPEN = Schema(columns=(Continuous(name="pay", min=None, max=None), Categorical(name="job", values=None)))
TRAINS, COUNTS = Request(trains=True), Request(trains=False)


def composed(plan):
    return pld_epsilon(Ingredients.of(event.event for event in plan.events), plan.guarantee.delta)


@settings(max_examples=5, deadline=None)
@given(
    epsilon=st.floats(0.2, 10.0),
    delta=st.sampled_from([1e-4, 1e-5, 1e-7]),
    schema=st.sampled_from([CLOSED, OPEN, replace(CLOSED, num_units=5000)]),
    request_=st.sampled_from([TRAINS, COUNTS, Request(trains=True, num_marginals=3)]),
    count_share=st.floats(0.005, 0.1),
)
def test_the_composed_total_meets_the_budget_from_below(epsilon, delta, schema, request_, count_share):
    privacy = PrivacyConfig(epsilon=epsilon, delta=delta, count_share=count_share)
    plan = make_plan(privacy, TrainingConfig(steps=200), schema, request_)
    assert 0.995 * epsilon <= composed(plan) <= epsilon
    assert plan.epsilon == composed(plan)


def test_stages_get_their_shares_of_squared_inverse_noise():
    plan = make_plan(
        PrivacyConfig(count_share=0.02, columns_share=0.2), TrainingConfig(steps=200), CLOSED, TRAINS
    )
    total = gaussian_noise_multiplier(1.0, 1e-5) ** -2
    assert plan.event("count").noise_multiplier ** -2 / total == pytest.approx(0.02, rel=0.01)
    assert plan.event("columns/histograms").noise_multiplier ** -2 / total == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize(("refined", "share"), [(0, 0.1), (3, 0.2)])
def test_columns_get_more_where_pairs_are_bought_by_them(refined, share):
    asked = Request(trains=True, num_marginals=3, num_refined=refined)
    plan = make_plan(PrivacyConfig(), TrainingConfig(steps=200), CLOSED, asked)
    total = gaussian_noise_multiplier(1.0, 1e-5) ** -2
    assert plan.event("columns/histograms").noise_multiplier ** -2 / total == pytest.approx(share, rel=0.01)


def test_nothing_is_spent_on_what_is_declared_or_not_asked_for():
    names = {event.name for event in make_plan(PrivacyConfig(), TrainingConfig(), CLOSED, COUNTS).events}
    assert names == {"count", "columns/histograms"}
    public = make_plan(PrivacyConfig(), TrainingConfig(), replace(CLOSED, num_units=5000), COUNTS)
    assert [event.name for event in public.events] == ["columns/histograms"]
    assert public.event("columns/histograms").noise_multiplier == pytest.approx(
        gaussian_noise_multiplier(1.0, 1e-5), rel=5e-3
    )


def test_open_bounds_and_values_are_bought_and_values_pay_delta():
    plan = make_plan(PrivacyConfig(), TrainingConfig(), OPEN, COUNTS)
    assert [e.name for e in plan.events][1:4] == ["columns/range", "columns/narrow", "columns/values"]
    assert plan.event("columns/values").failure == pytest.approx(1e-6)
    assert sum(e.failure for e in plan.events) < 1e-5


def test_sensitivity_grows_with_columns_and_rows_per_unit():
    columns = tuple(Integer(name=f"c{i}", min=0, max=9) for i in range(4))
    entity = Schema(columns=(Identifier(name="id"), *columns), unit=Unit(column="id", max_rows=5))
    plan = make_plan(PrivacyConfig(), TrainingConfig(), entity, COUNTS)
    assert plan.event("columns/histograms").sensitivity == 5 * math.sqrt(4)
    assert plan.event("count").sensitivity == 1.0
    assert plan.guarantee.unit == "id" and plan.guarantee.max_rows == 5


def test_constants_of_training_are_those_that_are_charged():
    plan = make_plan(PrivacyConfig(), TrainingConfig(epochs=10, sample_rate=0.02), CLOSED, TRAINS)
    event = plan.event("training").event
    assert plan.training.steps == event.count == 500
    assert plan.training.sample_rate == event.event.sampling_probability == 0.02
    assert plan.training.noise_multiplier == event.event.event.noise_multiplier


def test_the_divisor_is_public_or_bought_and_never_exact():
    training = TrainingConfig(expected_batch_size=250, steps=100)
    public = make_plan(PrivacyConfig(), training, replace(CLOSED, num_units=5000), TRAINS).training
    assert public.sample_rate == 0.05 and public.expected_batch_size == 250
    assert public.with_count(9999.0) is public
    bought = make_plan(PrivacyConfig(), TrainingConfig(steps=100), CLOSED, TRAINS).training
    assert bought.expected_batch_size is None
    assert bought.with_count(1000.0).expected_batch_size == 50.0


def test_a_given_noise_multiplier_stops_before_the_step_that_exceeds():
    privacy = PrivacyConfig(epsilon=None, noise_multiplier=1.5, max_epsilon=2.0)
    plan = make_plan(privacy, TrainingConfig(epochs=100, sample_rate=0.05), CLOSED, TRAINS)
    assert plan.training.noise_multiplier == 1.5
    assert 0 < plan.training.steps < 2000
    assert composed(plan) <= 2.0
    generous = make_plan(privacy, TrainingConfig(steps=5), CLOSED, TRAINS)
    assert generous.training.steps == 5
    with pytest.raises(InvalidInput, match="single step"):
        make_plan(replace(privacy, noise_multiplier=0.5), TrainingConfig(sample_rate=0.5), CLOSED, TRAINS)


@pytest.mark.parametrize(
    ("settings_", "where"),
    [
        ({"noise_multiplier": 1.0}, "privacy.noise_multiplier"),
        ({"epsilon": None}, "privacy.epsilon"),
        ({"epsilon": None, "noise_multiplier": 1.0}, "privacy.max_epsilon"),
        ({"max_epsilon": 2.0}, "privacy.max_epsilon"),
        ({"epsilon": -1.0}, "privacy.epsilon"),
        ({"delta": 0.0}, "privacy.delta"),
        ({"columns_share": 0.995}, "privacy.columns_share"),
        ({"count_share": -0.1}, "privacy.count_share"),
        ({"name": "weak"}, "privacy.name"),
        ({"noise": "numpy"}, "privacy.noise"),
    ],
)
def test_contradictions_are_named(settings_, where):
    with pytest.raises(InvalidInput) as error:
        PrivacyConfig(**settings_)
    assert where in [problem.where for problem in error.value.problems]


def test_all_mistakes_are_shown_at_once():
    with pytest.raises(InvalidInput) as error:
        TrainingConfig(steps=0, sample_rate=1.5, ema_decay=1.0, max_grad_norm=0.0)
    assert len(error.value.problems) == 4


def test_what_would_need_the_exact_count_or_unpaid_reads_is_refused():
    wrong = TrainingConfig(expected_batch_size=100, gradient_accumulation=2, validation_share=0.1)
    with pytest.raises(InvalidInput) as error:
        make_plan(PrivacyConfig(), wrong, CLOSED, TRAINS)
    assert [p.where.split(".")[1] for p in error.value.problems] == [
        "expected_batch_size",
        "gradient_accumulation",
        "validation_share",
    ]
    assert "num_units" in str(error.value)


def test_no_privacy_has_no_noise_and_says_so():
    plan = make_plan(PrivacyConfig(name="none", epsilon=None), TrainingConfig(), OPEN, TRAINS)
    assert plan.epsilon == math.inf and not plan.private and plan.training is None
    assert all(event.noise_stddev == 0.0 for event in plan.events)
    assert "NON-PRIVATE" in describe_plan(plan)


def test_the_table_ends_at_the_declared_budget():
    schema = replace(OPEN, num_units=20_000)
    text = describe_plan(
        make_plan(PrivacyConfig(), TrainingConfig(), schema, Request(trains=True, num_parameters=9))
    )
    for words in ("Band: strong", "columns/values", "training", "epsilon=0.99", "Guess on one core"):
        assert words in text


@pytest.mark.parametrize(
    ("num_units", "privacy", "training", "words"),
    [
        (2000, {"delta": 1e-3}, {}, "delta=0.001 is not well below"),
        (2000, {}, {"sample_rate": 0.01}, "expected batch"),
        (2000, {}, {}, "too few units for this model"),
        (100, {}, {}, "average cell"),
        (None, {}, {}, "num_units"),
        (90_000, {"epsilon": 20.0}, {}, "weak promise"),
    ],
)
def test_unwise_plans_are_warned_about_with_a_suggestion(num_units, privacy, training, words):
    request = Request(trains=True, num_parameters=100_000)
    schema = replace(CLOSED, num_units=num_units)
    plan = make_plan(PrivacyConfig(**privacy), TrainingConfig(steps=50, **training), schema, request)
    found = [item for item in warnings(plan) if words in str(item)]
    assert found and all(item.suggestion for item in found)


@pytest.mark.parametrize("num_units", [None, 5000])
def test_the_plan_names_the_size_of_the_network_with_or_without_a_public_count(num_units):
    request = Request(trains=True, num_parameters=12_345)
    plan = make_plan(PrivacyConfig(), TrainingConfig(), replace(CLOSED, num_units=num_units), request)
    assert "12,345 private parameters" in describe_plan(plan)


def test_a_sound_plan_has_no_warning():
    schema = replace(CLOSED, num_units=200_000)
    privacy = PrivacyConfig(epsilon=4.0, delta=1e-7)
    plan = make_plan(privacy, TrainingConfig(steps=50), schema, Request(trains=True, num_parameters=10_000))
    assert list(warnings(plan)) == []
