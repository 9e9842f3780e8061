"""What leaves, and whether a stranger can check it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.measuring.measure import measure
from dpsynth.privacy.noise.entropy import AesEntropy
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request
from dpsynth.privacy.release.release import Release

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


def test_a_release_is_five_files(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "certificate.json",
        "generator.safetensors",
        "ledger.json",
        "release.json",
        "synthetic.parquet",
    ]
    assert Release.load(saved).claim == "epsilon=1, delta=1e-05"


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
