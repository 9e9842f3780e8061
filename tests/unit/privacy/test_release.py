"""What leaves, and whether a stranger can check it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.table import PrivateTable
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.ledger import Ledger
from dpsynth.privacy.measure import measure
from dpsynth.privacy.noise import AesEntropy, FixedEntropy
from dpsynth.privacy.plan import PrivacyConfig, Request, TrainingConfig, make_plan
from dpsynth.privacy.records import START, line_hash
from dpsynth.privacy.release import Release, verify

SCHEMA = Schema(columns=(Integer(name="age", min=0, max=9), Categorical(name="sex", values=("f", "m"))))


@dataclass(frozen=True)
class Config:
    width: int = 8


def build(folder, privacy=None, entropy=None, train=True, **changes):
    privacy, entropy = privacy or PrivacyConfig(), entropy or AesEntropy()
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"age": draw.integers(0, 10, 300), "sex": draw.choice(["f", "m"], 300)})
    plan = make_plan(privacy, TrainingConfig(steps=50), SCHEMA, Request(trains=True))
    ledger = Ledger.create(folder / "ledger.jsonl", plan)
    statistics = measure(PrivateTable(frame, SCHEMA), plan, ledger, entropy)
    ledger.charge("training")
    if train:
        ledger.finish("training")
    facts = {
        "schema": SCHEMA,
        "statistics": statistics,
        "encoder": {"representation": "bins"},
        "generator": "tvae",
        "config": Config(),
        "weights": {"decoder.weight": torch.arange(6.0).reshape(2, 3).T},
        "synthetic": pd.DataFrame({"age": [1, 2], "sex": ["f", "m"]}),
        "seed": 0,
        "ledger": ledger,
        "entropy": entropy,
    }
    return Release.make(**{**facts, **changes})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return build(folder).save(folder / "release")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "release")


def test_a_release_is_five_files_and_verifies(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "certificate.json",
        "generator.safetensors",
        "ledger.json",
        "release.json",
        "synthetic.parquet",
    ]
    found = verify(saved)
    assert found.passed, found.table()
    assert found.claim == "epsilon=1, delta=1e-05"


def test_what_is_loaded_is_what_was_saved(saved):
    loaded = Release.load(saved)
    assert loaded.schema == SCHEMA and loaded.private
    assert loaded.weights["decoder.weight"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert loaded.generator == {"name": "tvae", "config": {"width": 8}, "shaped": True}
    assert loaded.synthetic.to_dict("list") == {"age": [1, 2], "sex": ["f", "m"]}
    assert loaded.statistics.fine["age"].counts.shape == (10,)


def test_saving_a_loaded_release_keeps_every_byte(saved, tmp_path):
    again = Release.load(saved).save(tmp_path / "again")
    for path in saved.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_certificate_states_unit_accountants_noise_and_gaps(saved):
    certificate = json.loads((saved / "certificate.json").read_text())
    assert certificate["unit"] == "row" and certificate["neighbours"] == "add_or_remove_one"
    accountants = certificate["accountants"]
    assert accountants["pld"] <= 1.0 < accountants["rdp_dp_accounting"] < 1.5
    assert "AES" in certificate["noise"] and len(certificate["gaps"]) >= 4


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {"modes": np.array([1.0])}},
        {"config": {"rows": pd.DataFrame({"age": [1]})}},
        {"weights": {"rows": np.zeros(3)}},
        {"weights": {"net": torch.nn.Linear(1, 1)}},
        {"encoder": {"mean": float("nan")}},
    ],
)
def test_only_plain_facts_and_tensors_get_in(tmp_path, changes):
    with pytest.raises(GuaranteeVoid):
        build(tmp_path, **changes)


def test_rows_carry_nothing_but_themselves(tmp_path):
    """Parquet would store a frame's attributes, its index and categories that no released row has."""
    frame = pd.DataFrame(
        {"age": [1, 2], "sex": pd.Categorical(["f", "f"], categories=["f", "PLANTED-RARE"])},
        index=["PLANTED-A", "PLANTED-B"],
    )
    frame.attrs = {"source": "PLANTED-PATH"}
    folder = build(tmp_path, synthetic=frame).save(tmp_path / "release")
    assert b"PLANTED" not in (folder / "synthetic.parquet").read_bytes()
    frame.to_parquet(tmp_path / "naive.parquet")
    assert b"PLANTED" in (tmp_path / "naive.parquet").read_bytes()


def test_a_release_needs_finished_events_and_a_folder_of_its_own(tmp_path):
    with pytest.raises(GuaranteeVoid, match="not finished"):
        build(tmp_path, train=False)
    (tmp_path / "two").mkdir()
    release = build(tmp_path / "two")
    with pytest.raises(GuaranteeVoid, match="not empty"):
        release.save(tmp_path / "two")


def test_fixed_noise_makes_a_void_release_that_fails(tmp_path):
    folder = build(tmp_path, entropy=FixedEntropy()).save(tmp_path / "release")
    found = verify(folder)
    assert not found.passed and found.claim == "VOID"


def test_no_privacy_verifies_as_exactly_that(tmp_path):
    folder = build(tmp_path, PrivacyConfig(name="none", epsilon=None)).save(tmp_path / "release")
    found = verify(folder)
    assert found.passed and found.claim == "NON-PRIVATE"
    assert not Release.load(folder).private


def edit(folder, name, change, rehash=True):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    if rehash and name != "certificate.json":
        from dpsynth.privacy.certificate import file_digest

        digest = file_digest(folder / name)
        edit(folder, "certificate.json", lambda c: c["files"].update({name: digest}))


def rechain(content):
    """A forger's work: makes all hashes right again."""
    previous = START
    for record in content["records"]:
        record["previous"] = previous
        previous = record["hash"] = line_hash({k: v for k, v in record.items() if k != "hash"})


def _more_steps(content):
    content["records"][0]["plan"]["events"][-1]["event"]["count"] = 5000
    content["records"][0]["plan"]["training"]["steps"] = 5000
    rechain(content)


def _less_noise_used(content):
    content["records"][0]["plan"]["training"]["noise_multiplier"] = 0.1
    rechain(content)


def _second_read(content):
    content["records"].insert(2, dict(content["records"][1]))
    for index, record in enumerate(content["records"]):
        record["index"] = index
    rechain(content)


def _smaller_sensitivity(content):
    event = content["records"][0]["plan"]["events"][1]
    event["sensitivity"] /= 2
    rechain(content)


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        ("ledger.json", _more_steps, "epsilon"),
        ("ledger.json", _less_noise_used, "parameters"),
        ("ledger.json", _second_read, "ledger"),
        ("ledger.json", _smaller_sensitivity, "parameters"),
        ("ledger.json", lambda c: c["records"].pop(), "finished"),
        ("release.json", lambda c: c["statistics"]["fine"]["age"].update(noise_stddev=0.0), "parameters"),
        ("release.json", lambda c: c["schema"]["columns"][0].update(max=8), "statement"),
        ("certificate.json", lambda c: c.update(epsilon=0.5), "statement"),
        ("certificate.json", lambda c: c.update(claim="epsilon=0.1, delta=1e-05"), "statement"),
        ("certificate.json", lambda c: c["accountants"].update(pld=0.5), "epsilon"),
    ],
)
def test_a_forged_release_fails_even_with_right_hashes(copy, name, change, check):
    edit(copy, name, change)
    failed = [c.name for c in verify(copy).checks if not c.passed]
    assert check in failed


@pytest.mark.parametrize(
    "name", ["synthetic.parquet", "generator.safetensors", "release.json", "ledger.json"]
)
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
