"""A forged release fails: whoever drops, hides or cheapens a purchase, or releases more than was bought."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpsynth import pipeline
from dpsynth.data.schema import Boolean, Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import GuaranteeVoid
from dpsynth.generators import tvae
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.release.certificate import FILES
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from tests.support.forging import forge, load, lowered, recertify, without

OPEN = Schema(columns=(Categorical(name="town"), Integer(name="age"), Boolean(name="smokes")))
DECLARED = Schema(
    columns=(
        Categorical(name="town", values=("aa", "bb", "cc")),
        Integer(name="age", min=0, max=90),
        Boolean(name="smokes"),
    ),
    num_units=300,
    target="smokes",
)


FREE = {"anchor_steps": 2, "warm_steps": 2, "fit_pool": 500}


def table(schema):
    draw = np.random.default_rng(0)
    columns = {
        "town": draw.choice(["aa", "bb", "cc"], 300),
        "age": draw.integers(0, 90, 300),
        "smokes": draw.random(300) < 0.5,
    }
    return PrivateTable(pd.DataFrame(columns), schema)


def recipe(anchor: float = 0.0, rounds: int | None = None, **privacy):
    return pipeline.Recipe(
        generator="tvae",
        settings=tvae.Config(size="small", anchor_weight=anchor, adaptive_rounds=rounds, **FREE),
        privacy=PrivacyConfig(**{"epsilon": 8.0, "delta": 1e-5, **privacy}),
        training=TrainingConfig(steps=3, epochs=None, sample_rate=0.1),
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Everything is bought: count, range, narrow, values, histograms, training."""
    folder = tmp_path_factory.mktemp("open")
    pipeline.run(table(OPEN), recipe(), folder)
    return folder / "release"


@pytest.fixture(scope="module")
def anchored(tmp_path_factory):
    """Histograms by a target, joint histograms twice, training."""
    folder = tmp_path_factory.mktemp("declared")
    pipeline.run(table(DECLARED), recipe(anchor=1.0), folder)
    return folder / "release"


@pytest.fixture
def copy(opened, tmp_path):
    return shutil.copytree(opened, tmp_path / "release")


@pytest.fixture
def bought(anchored, tmp_path):
    return shutil.copytree(anchored, tmp_path / "release")


def failed(folder):
    return [check.name for check in verify(folder).checks if not check.passed]


def test_honest_releases_verify_and_say_what_stays_on_trust(opened, anchored):
    for folder in (opened, anchored):
        found = verify(folder)
        assert found.passed, found.table()
        assert found.claim == "epsilon=8, delta=1e-05"
        assert found.table().splitlines()[-1] == "verified: epsilon=8, delta=1e-05"
        assert "on trust: that the ledger is the run's own" in found.table()


@pytest.mark.parametrize(
    "names",
    [
        ("training",),
        ("count",),
        ("columns/values",),
        ("columns/range",),
        ("columns/narrow",),
        ("columns/histograms",),
        ("count", "training", "columns/values", "columns/range", "columns/narrow"),
        ("count", "training", "columns/values", "columns/range", "columns/narrow", "columns/histograms"),
    ],
    ids="+".join,
)
def test_a_dropped_purchase_fails(copy, names):
    forge(copy, ledger=without(*names))
    assert "events" in failed(copy)


@pytest.mark.parametrize("name", ["marginals", "marginals/refined", "columns/histograms"])
def test_dropped_joint_histograms_fail(bought, name):
    forge(bought, ledger=without(name))
    assert "events" in failed(bought)


def test_an_uncharged_choice_fails(tmp_path):
    pipeline.run(table(replace(DECLARED, target=None)), recipe(anchor=1.0, rounds=1), tmp_path)
    folder = tmp_path / "release"
    assert not failed(folder)
    plan = json.dumps(load(folder / "ledger.json"))
    assert "marginals/1/choice" in plan and "exponential_mechanism" in plan
    forge(folder, ledger=lambda records: [r for r in records if r.get("event") != "marginals/1/choice"])
    assert failed(folder) == ["events"]
    forge(folder, ledger=without("marginals/1/choice"))
    assert "events" in failed(folder)


def test_histograms_that_are_dropped_from_files_as_well_fail(copy):
    forge(copy, ledger=without("columns/histograms"), facts=lambda f: f["statistics"].update(fine={}))
    assert "events" in failed(copy)


def test_a_purchase_that_is_planned_but_not_charged_fails(copy):
    forge(copy, ledger=lambda records: [r for r in records if r.get("event") != "training"])
    assert failed(copy) == ["events"]
    forge(copy, ledger=lambda records: [r for r in records if r.get("kind") != "finish"])
    assert failed(copy) == ["events"]


def _edit(change):
    def edited(records):
        change(records[0]["plan"])
        return lowered(records)

    return edited


def _fewer_steps(plan):
    plan["training"]["steps"] = plan["events"][-1]["event"]["count"] = 1


def _smaller_failure(plan):
    values = next(event for event in plan["events"] if event["name"] == "columns/values")
    values["failure"] = values["event"]["events"][1]["delta"] = 1e-9


def _lower_rate(plan):
    plan["training"]["sample_rate"] = plan["events"][-1]["event"]["event"]["sample_rate"] = 0.05


def _more_noise(plan):
    step = plan["events"][-1]["event"]["event"]["event"]
    noise = 1.1 * step["noise_multiplier"]
    plan["training"]["noise_multiplier"] = plan["events"][-1]["noise_multiplier"] = noise
    step["noise_multiplier"] = noise


def _halved_sensitivity(plan):
    histograms = next(event for event in plan["events"] if event["name"] == "columns/histograms")
    histograms["sensitivity"] /= 2
    histograms["noise_multiplier"] *= 2
    histograms["event"]["noise_multiplier"] *= 2


def _second_read(plan):
    plan["events"].insert(1, {**plan["events"][0], "name": "count again"})


def _other_delta(plan):
    plan["guarantee"]["delta"] = 1e-3


def _other_unit(plan):
    plan["guarantee"] |= {"unit": "household", "max_rows": 5}


def _lower_clip(plan):
    plan["training"]["max_grad_norm"] = plan["events"][-1]["sensitivity"] = 0.5


@pytest.mark.parametrize(
    "change",
    [
        _fewer_steps,
        _smaller_failure,
        _lower_rate,
        _more_noise,
        _halved_sensitivity,
        _second_read,
        _other_delta,
        _other_unit,
        _lower_clip,
        lambda plan: plan.update(epsilon=1.0),
        lambda plan: plan.update(hidden=[1, 2, 3]),
        lambda plan: plan.update(canaries="the rows that were left out"),
        lambda plan: plan["events"].reverse(),
    ],
    ids=lambda change: change.__name__,
)
def test_an_edited_plan_fails(copy, change):
    forge(copy, ledger=_edit(change))
    assert {"events", "ledger"} & set(failed(copy))


def test_no_tolerance_hides_a_thousandth_of_noise_at_equal_versions(copy):
    def change(plan):
        for event in plan["events"]:
            if event["name"] == "count":
                event["noise_multiplier"] *= 1.001
                event["event"]["noise_multiplier"] *= 1.001

    forge(copy, ledger=_edit(change))
    assert "events" in failed(copy)


def _in_recipe(*path, value):
    def change(records):
        part = records[0]["recipe"]
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return records

    return change


@pytest.mark.parametrize(
    "ledger",
    [
        _in_recipe("generator", value="independent"),
        _in_recipe("generator", value="no such method"),
        _in_recipe("settings", "embedding_dim", value=7),
        _in_recipe("settings", "password", value="x"),
        _in_recipe("privacy", "epsilon", value=9.0),
        _in_recipe("privacy", "epsilon", value="8"),
        _in_recipe("privacy", "name", value="none"),
        _in_recipe("training", "steps", value=2),
        _in_recipe("training", "sample_rate", value=0.05),
        _in_recipe("training", value=None),
        _in_recipe("seed", value=5),
        lambda records: [{**records[0], "recipe": None}, *records[1:]],
    ],
)
def test_another_recipe_than_the_plans_fails(copy, ledger):
    forge(copy, ledger=ledger)
    assert {"recipe", "events"} & set(failed(copy))


def test_swapped_settings_of_the_generator_fail(copy):
    forge(copy, facts=lambda f: f["generator"]["config"].update(anchor_weight=1.0))
    assert "recipe" in failed(copy)


def test_a_schema_that_declares_what_was_bought_fails(copy):
    forge(copy, facts=lambda f: f["schema"].update(num_units=300))
    assert "events" in failed(copy)
    forge(copy, ledger=without("count"))
    assert "events" in failed(copy)  # training's noise was solved for beside the count


def test_other_versions_may_round_another_way_and_no_more(copy):
    def other(facts):
        facts["versions"]["numpy"] = "1.0"

    forge(copy, facts=other)
    found = verify(copy)
    assert found.passed and "noise within 2%" in found.table()
    forge(copy, ledger=_edit(_fewer_steps))
    assert "events" in failed(copy)


def _fine(facts):
    return facts["statistics"]["fine"]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: _fine(f)["age"].update(noise_stddev=0.0),
        lambda f: _fine(f)["age"].update(event="training"),
        lambda f: _fine(f)["age"].update(columns=["town"]),
        lambda f: _fine(f).pop("age"),
        lambda f: _fine(f).update(pay=_fine(f)["age"]),
        lambda f: f["statistics"]["marginals"].append(_fine(f)["age"]),
        lambda f: f["statistics"]["crossed"].update(age=_fine(f)["age"]),
        lambda f: f["statistics"].update(exact=[1, 2, 3]),
        lambda f: _fine(f)["age"].update(exact=[1, 2, 3]),
        lambda f: f["statistics"]["domain"].append(f["statistics"]["domain"][0]),
        lambda f: f["statistics"]["domain"].reverse(),
        lambda f: f["statistics"]["domain"][2].update(values=[True, False]),
        lambda f: f["statistics"]["domain"][1].update(groups=[0]),
        lambda f: f["statistics"]["domain"][1].update(missing=True),
    ],
    ids=range(14),
)
def test_more_than_was_bought_fails(copy, change):
    forge(copy, facts=change)
    assert "histograms" in failed(copy)


def _twice(facts):
    facts["statistics"]["marginals"][1] = facts["statistics"]["marginals"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f["statistics"]["marginals"].pop(),
        lambda f: f["statistics"]["marginals"].append(f["statistics"]["marginals"][0]),
        lambda f: f["statistics"]["marginals"][0].update(event="marginals/refined"),
        lambda f: f["statistics"]["marginals"][0].update(event="marginals/9/answers"),
        lambda f: f["statistics"]["marginals"][0].update(noise_stddev=0.1),
        lambda f: f["statistics"]["marginals"][0].update(columns=["~age", "~town", "town"]),
        lambda f: f["statistics"]["crossed"]["age"].update(noise_stddev=1.0),
        lambda f: f["statistics"]["crossed"].pop("age"),
        lambda f: f["statistics"]["fine"]["age"]["counts"].__setitem__(
            0, 1.0
        ),  # not the sum of what was bought
        lambda f: f["statistics"].update(num_units=299.0),
        lambda f: f["statistics"]["domain"][1]["edges"].__setitem__(0, -7.0),
    ],
    ids=range(11),
)
def test_other_joint_histograms_than_were_bought_fail(bought, change):
    forge(bought, facts=change)
    assert "histograms" in failed(bought)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update(rows=[["aa", 41, True]]),
        lambda f: f.pop("versions"),
        lambda f: f["schema"].update(comment="x"),
        lambda f: f["versions"].update(numpy=["aa", 41, True]),
    ],
)
def test_facts_that_no_release_has_fail(copy, change):
    forge(copy, facts=change)
    assert failed(copy)


@pytest.mark.parametrize(
    "ledger",
    [
        lambda records: [{**records[0], "note": "x"}, *records[1:]],
        lambda records: [*records[:-1], {**records[-1], "digest": "aa 41 True"}],
        lambda records: [*records, {"kind": "void", "reason": "x"}],
        lambda records: [*records, {"kind": "charge", "event": "count"}],
        lambda records: [records[0], records[3], *records[1:3], *records[4:]],
    ],
)
def test_lines_that_no_ledger_writes_fail(copy, ledger):
    forge(copy, ledger=ledger)
    assert "ledger" in failed(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(epsilon=0.5),
        lambda c: c.update(claim="epsilon=0.1, delta=1e-05"),
        lambda c: c.update(delta=1e-9),
        lambda c: c.update(unit="household"),
        lambda c: c.update(gaps=[]),
        lambda c: c.update(noise="true randomness"),
        lambda c: c.update(seal="of approval"),
        lambda c: c["accountants"].update(pld=0.5),
        lambda c: c.pop("neighbours"),
    ],
)
def test_another_certificate_than_the_ledgers_fails(copy, change):
    recertify(copy, change)
    assert "statement" in failed(copy)


def _weights(folder, change):
    found = load_file(folder / FILES[1])
    change(found)
    save_file(found, folder / FILES[1])
    recertify(folder)


def _named(weights):
    return next(name for name, tensor in weights.items() if tensor.ndim == 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.update({_named(w): w[_named(w)][:-1].contiguous()}),
        lambda w: w.update({_named(w): w[_named(w)].double()}),
        lambda w: w.update({_named(w): torch.full_like(w[_named(w)], float("nan"))}),
        lambda w: w.update(rows=torch.arange(900.0)),
        lambda w: w.pop(_named(w)),
        lambda w: w.clear(),
    ],
    ids=["shape", "dtype", "nan", "more", "fewer", "none"],
)
def test_other_weights_than_the_method_has_fail(copy, change):
    _weights(copy, change)
    assert failed(copy) == ["weights"]


def test_notes_beside_the_weights_fail(copy):
    save_file(load_file(copy / FILES[1]), copy / FILES[1], metadata={"rows": "aa 41 True"})
    recertify(copy)
    assert failed(copy) == ["files"]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.assign(age=500),
        lambda rows: rows.assign(age=rows["age"].astype("float64")),
        lambda rows: rows.assign(town="elsewhere"),
        lambda rows: rows.assign(name="Ann"),
        lambda rows: rows[["age", "town", "smokes"]],
        lambda rows: rows.assign(town=rows["town"].where(rows.index > 0)),
    ],
    ids=["bound", "dtype", "value", "column", "order", "missing"],
)
def test_rows_that_the_schema_does_not_allow_fail(bought, change):
    change(pd.read_parquet(bought / FILES[0])).to_parquet(bought / FILES[0], index=False)
    recertify(bought)
    assert failed(bought) == ["rows"]


def test_rows_with_notes_fail(bought):
    import pyarrow.parquet as pq

    rows = pq.read_table(bought / FILES[0])
    notes = {**rows.schema.metadata, b"source": b"aa 41 True"}
    pq.write_table(rows.replace_schema_metadata(notes), bought / FILES[0])
    recertify(bought)
    assert failed(bought) == ["files"]


def test_fixed_noise_makes_a_void_release_that_fails(tmp_path):
    pipeline.run(table(DECLARED), recipe(), tmp_path, entropy=FixedEntropy())
    found = verify(tmp_path / "release")
    assert "ledger" in failed(tmp_path / "release") and found.claim == "VOID"


def test_no_privacy_verifies_as_exactly_that(tmp_path):
    pipeline.run(table(DECLARED), recipe(name="none"), tmp_path)
    found = verify(tmp_path / "release")
    assert found.passed and found.claim == "NON-PRIVATE"
    assert not Release.load(tmp_path / "release").private


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_noticed(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))
    assert not verify(copy).passed
    with pytest.raises(GuaranteeVoid, match="changed"):
        Release.load(copy)


def test_a_missing_or_extra_file_is_noticed(copy):
    (copy / "model.pkl").write_bytes(b"x")
    assert "model.pkl" in verify(copy).table()
    (copy / "ledger.json").unlink()
    assert not verify(copy).passed
    with pytest.raises(GuaranteeVoid, match="missing"):
        Release.load(copy)


def test_the_recipe_says_nothing_of_the_owners_machine(opened, tmp_path):
    own = recipe(dataset_ledger="/home/ann/spent.sqlite")
    (tmp_path / "ann.csv").write_text("x")
    training = replace(own.training, public_validation=str(tmp_path / "ann.csv"), early_stop_delta=0.1)
    content = replace(own, training=training).to_dict()
    assert "/home" not in json.dumps(content) and str(tmp_path) not in json.dumps(content)
    again = pipeline.Recipe.from_dict(content)
    assert again.training.steps == 3 and again.training.public_validation is None
    assert load(opened / "ledger.json")["records"][0]["recipe"] == recipe().to_dict()


def hidden_in_the_encoder(facts):
    facts["encoder"]["declared"] = facts["statistics"]


def other_modes(facts):
    facts["encoder"]["modes"] = {"age": {"means": [1.0], "stddevs": [1.0], "weights": [1.0]}}


def other_text(facts):
    facts["encoder"]["representation"] += " seen"


def other_groups(facts):
    (cells,) = (cells for cells in facts["statistics"]["domain"] if cells["column"] == "age")
    cells["groups"][1] = cells["groups"][0] if cells["groups"][1] != cells["groups"][0] else 1


def other_sums(facts):
    facts["statistics"]["fine"]["age"]["columns"] = ["smokes"]


def other_size(facts):
    facts["statistics"]["num_rows"] += 1.0


@pytest.mark.parametrize(
    "change", [hidden_in_the_encoder, other_modes, other_text, other_groups, other_sums, other_size]
)
def test_nothing_stands_where_bought_answers_would_make_something_else(bought, change):
    forge(bought, facts=change)
    assert "derived" in failed(bought)


def test_the_number_of_rows_is_one_that_was_bought_or_asked_for(copy):
    rows = pd.read_parquet(copy / FILES[0])
    rows.iloc[:-1].to_parquet(copy / FILES[0], index=False)
    recertify(copy)
    assert failed(copy) == ["rows"]


def test_gaps_are_compared_unless_another_dpsynth_wrote_them(copy):
    def no_gaps(certificate):
        certificate["gaps"] = []

    forge(copy, facts=lambda facts: facts["versions"].update(numpy="9.9"))
    recertify(copy, no_gaps)
    assert failed(copy) == ["statement"]
    forge(copy, facts=lambda facts: facts["versions"].update(dpsynth="9.9"))
    recertify(copy, no_gaps)
    (said,) = (check.detail for check in verify(copy).checks if check.name == "statement")
    assert "not compared" in said


def test_a_format_that_nobody_reads_is_not_verified(copy):
    forge(copy, facts=lambda facts: facts.update(version=2))
    assert "readable" in failed(copy)
