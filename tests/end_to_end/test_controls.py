"""The controls of training, through the whole pipeline."""

from __future__ import annotations

import json

import pytest

from dpsynth import pipeline
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import InvalidInput
from dpsynth.generators.base import load_generator
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.verify import verify
from tests.support.worlds import SCHEMA, make_table

TABLE = make_table(300)
QUICK = {"anchor_steps": 2, "fit_pool": 2_000}


def run(folder, name, *, privacy=None, entropy=None, **training):
    config = {"steps": 6, "sample_rate": 0.1, "validation_every": 2} | training
    warm = {"warm_steps": 2} if name == "tvae" else {}
    recipe = pipeline.Recipe(
        generator=name,
        settings=load_generator(name).Config(size="small", **QUICK, **warm),
        privacy=privacy or PrivacyConfig(epsilon=2.0, delta=1e-4),
        training=TrainingConfig(**config),
        num_rows=50,
    )
    return pipeline.run(PrivateTable(TABLE, SCHEMA), recipe, folder, entropy=entropy)


NONE = PrivacyConfig(name="none", epsilon=None)


def steps_of(found):
    return [step for step, _ in found.training.validation_losses]


def test_bought_looks_are_in_the_ledger_and_the_release_verifies(tmp_path):
    found = run(tmp_path, "tvae", privacy=PrivacyConfig(epsilon=2.0, delta=1e-4, validation_share=0.1))
    assert steps_of(found) == [2, 4, 6]
    assert verify(tmp_path / "release").passed, verify(tmp_path / "release").table()
    records = json.loads((tmp_path / "release" / "ledger.json").read_text())["records"]
    kinds = [(r["kind"], r["event"]) for r in records if r.get("event") in ("validation", "training")]
    assert kinds == [
        ("charge", "validation"),
        ("charge", "training"),
        ("finish", "training"),
        ("finish", "validation"),
    ]


@pytest.mark.parametrize("name", ["tvae", "ctgan"])
@pytest.mark.parametrize("privacy", [None, NONE])
def test_public_rows_validate_with_privacy_and_without(tmp_path, name, privacy):
    make_table(80, seed=5).to_csv(tmp_path / "public.csv", index=False)
    found = run(tmp_path / "run", name, privacy=privacy, public_validation=str(tmp_path / "public.csv"))
    assert steps_of(found) == [2, 4, 6]
    assert all(loss > 0.0 for _, loss in found.training.validation_losses)


def test_public_rows_that_break_the_schema_are_refused_before_anything_is_charged(tmp_path):
    table = make_table(80, seed=5)
    table["age"] = 200
    table.to_csv(tmp_path / "public.csv", index=False)
    with pytest.raises(InvalidInput, match="age"):
        run(tmp_path / "run", "tvae", public_validation=str(tmp_path / "public.csv"))
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_a_held_out_share_stops_ctgan_without_privacy(tmp_path):
    found = run(tmp_path, "ctgan", privacy=NONE, validation_share=0.3, early_stop_delta=1e9, steps=50)
    assert found.training.steps == 8 and steps_of(found) == [2, 4, 6, 8]


def test_units_drawn_from_a_file_give_the_same_release(tmp_path):
    rows = [
        run(tmp_path / str(mb), "tvae", entropy=FixedEntropy(), resident_mb=mb).release.synthetic
        for mb in (100.0, 1e-3)
    ]
    assert rows[0].equals(rows[1])
