"""A folder answers its own run alone, the books are held against each other, and lifetime budgets hold."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Boolean, Categorical, Continuous, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import BudgetExceeded, DpsynthError, GuaranteeVoid
from dpsynth.generators import independent, tvae
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.many_runs.lifetime import Account, Uncharged
from dpsynth.privacy.release.run_folder import ledgers_in

COLUMNS = (Categorical(name="x", values=("a", "b", "c")), Boolean(name="y"))
SCHEMA = Schema(columns=COLUMNS, num_units=100)
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": RNG.choice(["a", "b", "c"], 100), "y": RNG.random(100) < 0.5})
TABLE = PrivateTable(FRAME, SCHEMA)
RECIPE = pipeline.Recipe(
    generator="independent",
    settings=independent.Config(),
    privacy=PrivacyConfig(epsilon=1.0),
    training=TrainingConfig(steps=2, sample_rate=0.5),
    num_rows=20,
)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The user's own store, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    return tmp_path / "own" / "dpsynth" / "spent.sqlite"


def spends(**changes):
    return replace(RECIPE, privacy=replace(RECIPE.privacy, **changes))


def trains(**changes):
    return replace(RECIPE, training=replace(RECIPE.training, **changes))


OTHERS = {
    "epsilon": (TABLE, spends(epsilon=0.1)),
    "delta": (TABLE, spends(delta=1e-6)),
    "no privacy": (TABLE, spends(name="none")),
    "noise": (TABLE, spends(noise="torch")),
    "seed": (TABLE, replace(RECIPE, seed=1)),
    "rows": (TABLE, replace(RECIPE, num_rows=21)),
    "generator": (TABLE, replace(RECIPE, generator="tvae", settings=tvae.Config(size="small"))),
    "max_grad_norm": (TABLE, trains(max_grad_norm=2.0)),
    "schedule": (TABLE, trains(schedule="cosine")),
    "table": (PrivateTable(FRAME.iloc[:10], SCHEMA), RECIPE),
    "one value": (PrivateTable(FRAME.assign(y=[*FRAME["y"][:-1], not FRAME["y"][99]]), SCHEMA), RECIPE),
    "units": (PrivateTable(FRAME, replace(SCHEMA, num_units=101)), RECIPE),
    "kind": (PrivateTable(FRAME, SCHEMA.with_columns(Boolean(name="y", nullable=True))), RECIPE),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    pipeline.run(TABLE, RECIPE, folder)
    return folder


@pytest.mark.parametrize("other", OTHERS)
def test_a_finished_folder_answers_no_other_run(finished, other):
    table, recipe = OTHERS[other]
    with pytest.raises(GuaranteeVoid, match="another run"):
        pipeline.run(table, recipe, finished)


def test_a_finished_folder_answers_its_own_run_computed_elsewhere_in_any_order(finished):
    elsewhere = {
        "threads": 2,
        "checkpoint_every": 7,
        "physical_batch_size": 3,
        "device": "cpu",
        "backend": "vmap",
    }
    before = (finished / "ledger.jsonl").read_bytes()
    for recipe in (RECIPE, trains(**elsewhere), spends(lifetime_epsilon=9.0)):
        again = pipeline.run(PrivateTable(FRAME.iloc[::-1], SCHEMA), recipe, finished)
        assert again.release.claim == again.plan.guarantee.claim == "epsilon=1, delta=1e-05"
    assert (finished / "ledger.jsonl").read_bytes() == before


def test_what_is_kept_of_the_table_is_keyed_and_its_owners(finished):
    kept = json.loads((finished / "run.json").read_text())
    assert stat.S_IMODE((finished / "run.json").stat().st_mode) == 0o600
    assert kept["table"] == TABLE.fingerprint(bytes.fromhex(kept["salt"])) and len(kept["salt"]) == 64
    released = "".join(path.read_text() for path in (finished / "release").glob("*.json"))
    assert kept["table"] not in released and kept["salt"] not in released


DAMAGE = {
    "ledger removed": (lambda f: (f / "ledger.jsonl").unlink(), "ledger.jsonl"),
    "ledger emptied": (lambda f: (f / "ledger.jsonl").write_text(""), "ledger at"),
    "ledger cut": (lambda f: cut(f / "ledger.jsonl"), "it was cut"),
    "answers removed": (lambda f: (f / "answers.json").unlink(), "answers.json"),
    "answers emptied": (lambda f: (f / "answers.json").write_text(""), "answers.json"),
    "answers changed": (lambda f: changed(f / "answers.json"), "not the one that was bought"),
    "weights removed": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors"),
    "weights changed": (lambda f: flipped(f / "weights.safetensors"), "weights.safetensors"),
    "record removed": (lambda f: (f / "run.json").unlink(), "run.json"),
    "record emptied": (lambda f: (f / "run.json").write_text(""), "run.json"),
}


def cut(path):
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def changed(path):
    kept = json.loads(path.read_text())
    name = next(iter(kept))
    kept[name][0] += 1
    path.write_text(json.dumps(kept))


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was killed between its training and its release."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    pipeline.run(TABLE, TRAINED, folder)
    for path in (folder / "release").glob("*"):
        path.unlink()
    (folder / "release").rmdir()
    return folder


TRAINED = replace(
    RECIPE,
    generator="tvae",
    settings=tvae.Config(size="small", anchor_steps=2, warm_steps=2, fit_pool=200),
)


@pytest.mark.parametrize("fault", DAMAGE)
def test_what_was_changed_emptied_or_removed_beside_a_run_is_named(trained, tmp_path, fault):
    import shutil

    damage, named = DAMAGE[fault]
    shutil.copytree(trained, tmp_path / "run")
    damage(tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    with pytest.raises(GuaranteeVoid, match=named):
        pipeline.run(TABLE, TRAINED, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    if fault.startswith("ledger"):  # the cost of the sweep that it stands in is not 0 then
        with pytest.raises(GuaranteeVoid, match="ledger"):
            ledgers_in(tmp_path)


def test_an_intact_run_goes_on(trained, tmp_path):
    import shutil

    shutil.copytree(trained, tmp_path / "run")
    release = pipeline.run(TABLE, TRAINED, tmp_path / "run").release
    assert release.claim == "epsilon=1, delta=1e-05" and len(ledgers_in(tmp_path)) == 1


def test_a_lifetime_budget_holds_for_python_calls(store, tmp_path):
    recipe = spends(lifetime_epsilon=2.2)
    spent = [pipeline.run(TABLE, recipe, tmp_path / str(i)).spent for i in range(3)]
    assert [s.num_runs for s in spent] == [1, 2, 3] and spent[-1].epsilon <= 2.2
    with pytest.raises(BudgetExceeded, match="lifetime_epsilon=2.2"):
        pipeline.run(TABLE, recipe, tmp_path / "over")
    assert not (tmp_path / "over" / "ledger.jsonl").exists()
    assert pipeline.run(TABLE, recipe, tmp_path / "0").spent.num_runs == 3  # its own, once
    # Other schemas, other forms, and runs without a limit of their own draw on the same account.
    text = PrivateTable(FRAME.astype("str")[["y", "x"]], Schema(columns=COLUMNS, num_units=99))
    with pytest.raises(BudgetExceeded):
        pipeline.run(text, recipe, tmp_path / "text")
    assert pipeline.run(TABLE, RECIPE, tmp_path / "unlimited").spent.num_runs == 4


def test_a_part_of_a_table_is_charged_to_the_whole(store, tmp_path):
    recipe = spends(lifetime_epsilon=1.0)
    part = PrivateTable(FRAME.iloc[:60], SCHEMA)
    pipeline.run(part, recipe, tmp_path / "a", account=Account(table=TABLE))
    with pytest.raises(BudgetExceeded):
        pipeline.run(TABLE, recipe, tmp_path / "b")


def test_a_named_dataset_keeps_its_account_as_it_grows(store, tmp_path):
    recipe = spends(lifetime_epsilon=1.0, dataset="study")
    pipeline.run(TABLE, recipe, tmp_path / "a")
    grown = PrivateTable(pd.concat([FRAME, FRAME.iloc[:7]], ignore_index=True), SCHEMA)
    with pytest.raises(BudgetExceeded):
        pipeline.run(grown, recipe, tmp_path / "b")


@pytest.mark.parametrize("lose", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_lost_store_is_noticed_by_the_runs(store, tmp_path, lose):
    recipe = spends(lifetime_epsilon=1.0)
    pipeline.run(TABLE, recipe, tmp_path / "a")
    lose(store)
    store.with_name("spent.sqlite.runs").unlink()
    for folder in ("a", "b"):
        with pytest.raises(GuaranteeVoid, match="spent.sqlite lost what 1 runs"):
            pipeline.run(TABLE, recipe, tmp_path / folder)
    assert not (tmp_path / "b" / "ledger.jsonl").exists()


def test_a_game_of_an_audit_is_charged_to_no_table(store, tmp_path):
    run = pipeline.run(TABLE, spends(lifetime_epsilon=0.1), tmp_path / "a", account=Uncharged("a test"))
    assert run.spent is None and not store.exists()
    with pytest.raises(ValueError, match="reason"):
        Uncharged(" ")


def test_a_lifetime_budget_holds_for_dgan(store, tmp_path):
    from dpsynth.generators.dgan import Config
    from dpsynth.timeseries import DGAN, Declared

    features = np.random.default_rng(0).random((40, 4, 1))
    model = DGAN(
        Config(max_sequence_len=4, sample_len=2, epochs=1),
        privacy=PrivacyConfig(epsilon=1.0, lifetime_epsilon=1.0),
        declared=Declared(columns=(Continuous(name="feature_0", min=0, max=1),), num_units=40),
    )
    model.train_numpy(features, folder=tmp_path / "a")
    with pytest.raises(BudgetExceeded, match="lifetime"):
        model.train_numpy(features[::-1], folder=tmp_path / "b")


def test_a_damaged_checkpoint_is_named(tmp_path):
    from dpsynth.privacy.training.checkpoint import Checkpoint

    path = tmp_path / "training.ckpt"
    for content in (b"", b"garbage", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(DpsynthError, match="training.ckpt is damaged"):
            Checkpoint(path=path).read("ledger", None)
