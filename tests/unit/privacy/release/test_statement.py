"""What a certificate says beside its claim is computed from ledger and schema, and holds."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import mpmath
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Categorical, Identifier, Schema, Unit
from dpsynth.errors import InvalidInput
from dpsynth.privacy.accounting import accountants
from dpsynth.privacy.release.certificate import make_certificate
from dpsynth.privacy.release.statement import DELTAS, _bounds, _unit_sentence, statement
from dpsynth.privacy.verify import verify
from tests.support.forging import forge, load, recertify
from tests.unit.privacy.verify.test_verify import DECLARED, recipe, table


def gaussian(noise):
    return {"type": "gaussian", "noise_multiplier": noise}


def sampled(rate, noise, count):
    event = {"type": "poisson_sampled", "sample_rate": rate, "event": gaussian(noise)}
    return {"type": "self_composed", "count": count, "event": event}


def bounds(*events, epsilon=1.0):
    return _bounds(json.dumps(events), epsilon)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stated")
    told = replace(recipe(), purpose="teaching", rationale="epsilon was agreed on", chosen="grid")
    pipeline.run(table(DECLARED), told, folder)
    return folder / "release"


@pytest.fixture
def copy(released, tmp_path):
    return shutil.copytree(released, tmp_path / "release")


def test_the_curve_of_gaussians_lies_close_above_the_exact_one():
    """Oracle: Balle and Wang's delta in 40 digits, for two Gaussian events that compose to one."""
    found = bounds(gaussian(2.0), gaussian(3.0))
    sigma = (1 / 4 + 1 / 9) ** -0.5
    for delta in DELTAS:
        stated = found["curve"][f"{delta:.0e}"]
        with mpmath.workdps(40):
            s = mpmath.mpf(sigma)

            def exact(e, s=s):
                return mpmath.ncdf(1 / (2 * s) - e * s) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * s) - e * s)

            assert exact(mpmath.mpf(stated)) <= delta < exact(mpmath.mpf(stated - 0.01))


def test_zcdp_and_gdp_of_gaussians_are_exact_and_rounded_up():
    found = bounds(gaussian(2.0), gaussian(3.0))
    precision = 1 / 4 + 1 / 9
    assert precision / 2 <= found["zcdp"]["rho"] <= precision / 2 + 1e-6
    assert math.sqrt(precision) <= found["gdp"]["mu"] <= math.sqrt(precision) + 1e-6
    assert found["renyi"]["8"] == pytest.approx(8 * precision / 2, abs=2e-6)


def test_sampled_steps_have_renyi_bounds_and_no_central_limit():
    found = bounds(sampled(0.01, 1.0, 500))
    assert found["gdp"]["mu"] is None and found["zcdp"]["rho"] is None
    order, steps = 4, 500
    with mpmath.workdps(40):  # Mironov, Talwar and Zhang (2019), equation 6
        terms = [
            mpmath.binomial(order, k) * mpmath.mpf("0.99") ** (order - k) * mpmath.mpf("0.01") ** k
            * mpmath.exp(mpmath.mpf(k * k - k) / 2)
            for k in range(order + 1)
        ]  # fmt: skip
        exact = steps * mpmath.log(sum(terms)) / (order - 1)
    assert exact <= found["renyi"]["4"] <= exact + 2e-6


def test_a_failure_probability_leaves_no_epsilon_below_it():
    found = bounds(gaussian(2.0), {"type": "failure", "delta": 1e-6})
    assert (
        found["curve"]["1e-07"] is None and found["curve"]["1e-05"] > bounds(gaussian(2.0))["curve"]["1e-05"]
    )
    assert found["gdp"]["mu"] is None and found["failure"] == 1e-6


def test_the_profile_is_the_stated_epsilon_at_its_delta():
    parts = accountants.Ingredients(gaussian=0.5, sampled={(0.02, 1.1): 200})
    grid = accountants.grid_for(accountants.pld_epsilon(parts, 1e-5))
    found = accountants.privacy_profile(parts, (1e-5,), grid)
    assert found == pytest.approx([accountants.pld_epsilon(parts, 1e-5)], rel=1e-3)


def test_the_fields_of_a_release(released):
    found = load(released / "certificate.json")
    assert verify(released).passed
    assert found["deployment"]["model"] == "central" and found["protects"].startswith("One row")
    assert found["purpose"] == "teaching" and found["rationale"] == "epsilon was agreed on"
    assert found["hyperparameters"]["chosen"] == "grid" and found["hyperparameters"]["covered"] is False
    assert found["definition"]["curve"]["1e-05"] <= found["epsilon"] == 8.0
    assert found["replace_one"]["epsilon"] == 16.0
    assert found["replace_one"]["delta"] == pytest.approx(1e-5 * (1 + math.exp(8)), rel=1e-6)
    assert set(found["public_facts"]["columns"]) == {column.name for column in DECLARED.columns}
    assert "privacy.delta" in found["public_facts"]["settings"]
    training = next(event for event in found["events"] if event["name"] == "training")
    assert training["mechanism"] == "gaussian with Poisson sampling" and training["steps"] == 3
    assert sum(event["share"] for event in found["events"]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "lie",
    [
        lambda known: known["definition"]["curve"].update({"1e-09": 0.1}),
        lambda known: known["replace_one"].update(epsilon=8.0),
        lambda known: known["hyperparameters"].update(chosen="fixed", covered=True),
        lambda known: known["events"].pop(),
        lambda known: known["events"][0].update(sensitivity=0.5),
        lambda known: known["public_facts"]["columns"].clear(),
        lambda known: known.update(protects="One person, with all rows."),
        lambda known: known.update(unprotected=[]),
        lambda known: known.update(purpose="medicine"),
        lambda known: known["deployment"].update(model="local"),
        lambda known: known["composition"].update(lifetime_epsilon=1.0),
    ],
)
def test_a_changed_field_fails(copy, lie):
    recertify(copy, lie)
    assert [check.name for check in verify(copy).checks if not check.passed] == ["statement"]


def test_a_run_whose_owner_says_nothing_claims_nothing_of_how_it_was_chosen(copy):
    assert recipe().chosen == "unstated"
    ledger = load(copy / "ledger.json")["records"]
    ledger[0]["recipe"].pop("chosen")
    assert statement(ledger, DECLARED)["hyperparameters"]["covered"] is False


def test_an_unknown_word_for_how_it_was_chosen_fails(copy):
    forge(copy, ledger=lambda records: records[0]["recipe"].update(chosen="blessed"))
    assert not verify(copy).passed
    with pytest.raises(InvalidInput, match="chosen"):
        pipeline.Recipe.from_dict(recipe().to_dict() | {"chosen": "blessed"})


def test_above_the_cap_the_first_rows_are_read():
    columns = (Identifier(name="person"), Categorical(name="town", values=("a", "b")))
    text = _unit_sentence(Schema(columns=columns, unit=Unit(column="person", max_rows=4)))
    assert "share one value of person" in text and "the first 4 in the file are read" in text


def test_a_void_or_open_release_states_no_bound(tmp_path):
    pipeline.run(table(DECLARED), recipe(name="none"), tmp_path)
    records = load(tmp_path / "release" / "ledger.json")["records"]
    assert statement(records, DECLARED)["definition"] == {"name": "none"}
    void = [*records, {"kind": "void", "reason": "fixed noise"}]
    found = make_certificate(void, DECLARED, "aes")
    assert found["definition"] == {"name": "none"} and found["replace_one"]["epsilon"] is None
