"""A release's files, and the tables that a report lays beside it, shared by the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Integer, Schema
from dpsynth.privacy.ledger.digests import file_digest
from dpsynth.privacy.release.certificate import FILES


def gaussian(noise_multiplier: float) -> dict:
    return {"type": "gaussian", "noise_multiplier": noise_multiplier}


def planned(name: str, stage: str, noise_multiplier: float, event: dict | None = None) -> dict:
    return {
        "name": name,
        "stage": stage,
        "noise_multiplier": noise_multiplier,
        "sensitivity": 1.0,
        "failure": 0.0,
        "about": f"what {name} buys",
        "event": event or gaussian(noise_multiplier),
    }


def write_release(folder: Path, synthetic: pd.DataFrame, schema: Schema, *, private: bool = True) -> Path:
    """Writes a release's files as `dpsynth.privacy.release.release` does, without weights."""
    training = {"type": "poisson_sampled", "sample_rate": 0.05, "event": gaussian(1.3)}
    training = {"type": "self_composed", "count": 600, "event": training}
    events = [
        planned("count", "count", 40.0),
        planned("columns/histograms", "columns", 12.0),
        planned("training", "training", 1.3, training),
    ]
    guarantee = {"epsilon": 1.0 if private else None, "delta": 1e-5, "unit": "row", "max_rows": 1}
    plan = {"guarantee": guarantee, "private": private, "events": events}
    records = [{"kind": "plan", "plan": plan}, {"kind": "charge", "event": "count"}]
    records += [{"kind": "finish", "event": "count"}, {"kind": "charge", "event": "columns/histograms"}]
    certificate = {
        "claim": "epsilon=1, delta=1e-05" if private else "NON-PRIVATE",
        "private": private,
        "void": [],
        "unit": "row",
        "max_rows": 1,
        "neighbours": "add_or_remove_one",
        "epsilon": 1.0 if private else None,
        "delta": 1e-5 if private else None,
        "accountants": {"pld": 0.998 if private else None, "rdp_opacus": 1.17 if private else None},
        "noise": "aes",
        "gaps": ["Timing is not protected."],
    }
    facts = {"schema": schema.to_dict(), "generator": {"name": "tvae", "config": {}}, "seed": 0}
    folder.mkdir(parents=True)
    synthetic.to_parquet(folder / "synthetic.parquet")
    save_file({"weight": np.zeros(1, dtype=np.float32)}, folder / "generator.safetensors")
    for name, content in (("release.json", facts), ("ledger.json", {"records": records})):
        (folder / name).write_text(json.dumps(content))
    certificate["files"] = {name: file_digest(folder / name) for name in FILES}
    (folder / "certificate.json").write_text(json.dumps(certificate))
    return folder


SCHEMA = Schema(
    columns=(
        Continuous(name="income", min=0.0, max=100.0, nullable=True),
        Integer(name="age", min=18, max=90),
        Categorical(name="city", values=("Bern", "Basel", "Zug"), nullable=True),
        Boolean(name="member"),
        Datetime(name="joined", format="%Y-%m-%d", min="2020-01-01", max="2023-12-31"),
        Categorical(name="buys", values=("no", "yes")),
    ),
    target="buys",
)


def table(num_rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1400, num_rows), unit="D")
    income = rng.gamma(4.0, 8.0, num_rows).clip(0, 100)
    return pd.DataFrame(
        {
            "income": np.where(rng.random(num_rows) < 0.1, np.nan, income),
            "age": rng.integers(18, 91, num_rows),
            "city": np.where(rng.random(num_rows) < 0.1, None, rng.choice(["Bern", "Basel"], num_rows)),
            "member": rng.random(num_rows) < 0.4,
            "joined": days.strftime("%Y-%m-%d"),
            "buys": np.where(rng.random(num_rows) < 1 / (1 + np.exp((32 - income) / 8)), "yes", "no"),
        }
    )


@pytest.fixture(scope="session")
def schema():
    return SCHEMA


@pytest.fixture(scope="session")
def make_table():
    return table


@pytest.fixture(scope="session")
def make_release():
    return write_release
