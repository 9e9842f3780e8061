"""Each rung of a ladder is what an ordinary run gives that stops there, and claims no more than that."""

from __future__ import annotations

import functools
from dataclasses import replace

import pandas as pd
import pytest
import torch

from dpsynth import pipeline
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import InvalidInput
from dpsynth.generators import ctgan, independent, tvae
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.many_runs import ladder
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.plan.pricing import describe_plan
from dpsynth.privacy.release import signing
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from tests.support.worlds import SCHEMA, make_table

FREE = {"anchor_steps": 2, "fit_pool": 2_000}  # what is free may be short
SETTINGS = {
    "tvae": tvae.Config(size="small", warm_steps=2, **FREE),
    "ctgan": ctgan.Config(size="small", **FREE),
}
RUNGS = (1.0, 3.0)  # the first is reached before any step


def recipe(name: str, **training) -> pipeline.Recipe:
    settings = {"steps": 30, "sample_rate": 0.2, "ema_decay": 0.9, "ladder": RUNGS, **training}
    return pipeline.Recipe(
        generator=name,
        settings=SETTINGS[name],
        privacy=PrivacyConfig(epsilon=4.0, delta=1e-4),
        training=TrainingConfig(**settings),
    )


@pytest.fixture(scope="module", autouse=True)
def planned_once():
    """Pricing takes seconds, and the same recipe comes back in most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "plan", functools.cache(pipeline.plan))
        yield


@pytest.fixture(scope="module")
def table():
    return PrivateTable(make_table(600), SCHEMA)


@pytest.fixture(scope="module")
def climbed(table, tmp_path_factory):
    return pipeline.run(table, recipe("tvae"), tmp_path_factory.mktemp("ladder"))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_rung_is_an_ordinary_run_stopped_at_its_step(name, table, tmp_path, monkeypatch):
    whole = pipeline.run(table, recipe(name), tmp_path / "ladder", entropy=FixedEntropy(0))
    assert [rung.steps for rung in whole.plan.rungs][1] > 5
    for rung, release in zip(whole.plan.rungs, (*whole.rungs, whole.release)):
        plan = replace(ladder.rung_plan(whole.plan, rung), rungs=())
        monkeypatch.setattr(pipeline, "plan", lambda *_, plan=plan: plan)
        if rung.steps == 0:
            continue  # nothing is trained
        alone = recipe(name, ladder=())
        stopped = pipeline.run(table, alone, tmp_path / f"{rung.epsilon}", entropy=FixedEntropy(0))
        pd.testing.assert_frame_equal(stopped.release.synthetic, release.synthetic)
        assert stopped.release.weights.keys() == release.weights.keys()
        assert all(torch.equal(stopped.release.weights[key], release.weights[key]) for key in release.weights)
        assert stopped.release.certificate["accountants"] == release.certificate["accountants"]


def test_rungs_are_one_training_with_one_noise_multiplier(climbed):
    plan = climbed.plan
    assert [rung.epsilon for rung in plan.rungs] == [*RUNGS, 4.0]
    steps = [rung.steps for rung in plan.rungs]
    assert steps[0] == 0 < steps[1] < steps[2] == 30
    assert "after 30 steps" in describe_plan(
        plan
    ) and "epsilon=1 comes before the first step" in describe_plan(plan)
    noise = {release.ledger[0]["plan"]["training"]["noise_multiplier"] for release in climbed.rungs[1:]}
    assert noise == {plan.training.noise_multiplier}
    assert len({release.ledger[0]["ledger"] for release in (*climbed.rungs, climbed.release)}) == 1
    for release in (*climbed.rungs, climbed.release):
        assert [rung["epsilon"] for rung in release.certificate["ladder"]["rungs"]] == [*RUNGS, 4.0]


def test_each_rung_verifies_and_one_more_step_would_not_fit(climbed, tmp_path):
    from dpsynth.privacy.accounting import accountants

    for rung, release in zip(climbed.plan.rungs, (*climbed.rungs, climbed.release)):
        release.save(tmp_path / f"{rung.epsilon}")
        found = verify(tmp_path / f"{rung.epsilon}")
        assert found.passed, found.table()
        assert release.claim == f"epsilon={rung.epsilon:g}, delta=0.0001"
        assert release.certificate["accountants"]["pld"] <= rung.epsilon
        if rung.steps < 30:
            more = ladder.rung_plan(climbed.plan, replace(rung, steps=rung.steps + 1))
            events = accountants.Ingredients.of(event.event for event in more.events)
            assert accountants.pld_epsilon(events, 1e-4) > rung.epsilon


def test_each_rung_is_signed(table, climbed, tmp_path):
    fingerprint, folder = signing.make_key(tmp_path / "key"), tmp_path / "run"
    places = [rung.place(folder) for rung in climbed.plan.rungs[:-1]]
    for place, release in zip((*places, folder / "release"), (*climbed.rungs, climbed.release)):
        place.parent.mkdir(parents=True, exist_ok=True)
        release.save_whole(place)
    pipeline._sign(folder, climbed.plan, signing.read_private_key(tmp_path / "key"))
    for place in (*places, folder / "release"):
        assert signing.signer_of(place) == fingerprint


def test_a_rung_that_trained_for_longer_than_it_claims_fails_verification(climbed, tmp_path):
    from dpsynth.privacy.release.certificate import make_certificate

    rung = climbed.plan.rungs[1]
    twin = replace(rung, steps=climbed.plan.training.steps)
    part = ladder.extract(climbed.release.ledger, climbed.plan, twin).records
    certificate = make_certificate(part, SCHEMA, "aes")
    replace(climbed.rungs[1], ledger=tuple(part), certificate=certificate).save(tmp_path / "twin")
    failed = [check.name for check in verify(tmp_path / "twin").checks if not check.passed]
    assert failed == ["events"]


def test_a_run_killed_between_rungs_gives_the_rungs_it_lacks(table, tmp_path, monkeypatch):
    save, saved = Release.save_whole, []

    def killed(self, place):
        if len(saved) == 1:
            raise KeyboardInterrupt
        saved.append(place)
        save(self, place)

    monkeypatch.setattr(Release, "save_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(table, recipe("tvae"), tmp_path)
    monkeypatch.setattr(Release, "save_whole", save)
    before = [place.joinpath("synthetic.parquet").read_bytes() for place in saved]
    run = pipeline.run(table, recipe("tvae"), tmp_path)
    assert [place.joinpath("synthetic.parquet").read_bytes() for place in saved] == before
    assert len(run.rungs) == 2 and (tmp_path / "rung-3" / "release" / "certificate.json").exists()
    charges = [record["event"] for record in run.release.ledger if record["kind"] == "charge"]
    assert charges.count("training") == 1 and not list(tmp_path.glob("*.ckpt"))
    again = pipeline.run(table, recipe("tvae"), tmp_path)  # finished: read, not made
    for one, other in zip((*run.rungs, run.release), (*again.rungs, again.release)):
        pd.testing.assert_frame_equal(one.synthetic, other.synthetic)


@pytest.mark.parametrize(
    ("rungs", "privacy"),
    [((1.0, 4.0), {}), ((2.0, 1.0), {}), ((0.0, 1.0), {}), ((1.0,), {"name": "none"})],
    ids=["above", "falling", "zero", "no privacy"],
)
def test_rungs_that_do_not_lead_up_to_the_budget_are_refused(rungs, privacy):
    wrong = replace(recipe("tvae", ladder=rungs), privacy=PrivacyConfig(**{"epsilon": 4.0, **privacy}))
    with pytest.raises(InvalidInput, match="training.ladder"):
        pipeline.plan(SCHEMA, wrong)


def test_a_generator_that_does_not_train_has_no_ladder():
    wrong = replace(recipe("tvae"), generator="independent", settings=independent.Config())
    with pytest.raises(InvalidInput, match="training.ladder.*trains"):
        pipeline.plan(SCHEMA, wrong)
