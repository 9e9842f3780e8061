"""From the file on, no row decides how another one looks, its dtype, or whether a run ends."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Boolean, Categorical, Continuous, Integer, Schema
from dpsynth.data.tables.datasets import DataConfig, load
from dpsynth.data.tables.table import PrivateTable
from dpsynth.generators import bayes_net, independent
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.measuring import undeclared
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.noise.mechanisms import exact_gaussian
from dpsynth.privacy.verify import verify
from tests.support.leftovers import leftovers

RECIPE = pipeline.Recipe(
    generator="independent",
    settings=independent.Config(),
    privacy=PrivacyConfig(epsilon=20.0, delta=1e-5),
    training=TrainingConfig(),
)
OPEN = Schema(
    columns=(
        Categorical(name="dose"),
        Categorical(name="code", dtype="int64", nullable=True),
        Categorical(name="word", unlisted="missing"),
        Integer(name="age", nullable=True),
        Continuous(name="pay", min=0, max=9, decimals=1),
        Boolean(name="sick", nullable=True),
    ),
    num_units=400,
)


@pytest.fixture
def left(tmp_path):
    """Reads a table from a file and runs a recipe on it; returns what was bought and released."""
    count = itertools.count()

    def leave(
        frame: pd.DataFrame, schema: Schema, *, ending="parquet", entropy=None, recipe=RECIPE
    ) -> dict[str, bytes]:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        path = folder / f"t.{ending}"
        frame.to_parquet(path, index=False) if ending == "parquet" else frame.to_csv(path, index=False)
        schema.dump(folder / "s.yaml")
        rows, found = load(DataConfig(name="csv", path=str(path), schema=str(folder / "s.yaml")))
        run = folder / "run"
        pipeline.run(PrivateTable(rows, found), recipe, run, entropy=entropy)
        assert entropy is not None or verify(run / "release").passed
        files = leftovers(run)
        return {name: files[name] for name in files if name.startswith("release/") or name == "answers.json"}

    return leave


def _table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    num = 200
    return pd.DataFrame(
        {
            "dose": np.where(np.arange(num) % 2, 0.0, 1.5) * np.where(np.arange(num) % 3, 1.0, -1.0),
            "code": random.choice([1.0, 2.0, np.nan], num),
            "word": random.choice(["x", "y", "z"], num),
            "age": random.choice([3.0, 4.0, np.nan], num),
            "pay": np.round(random.uniform(0, 9, num), 1),
            "sick": pd.Series(random.choice([True, False, None], num), dtype=object),
        }
    )


def _by_first_row(series, stddev, threshold, entropy):
    """The broken twin: values in the order of the table, with noise in that order."""
    counts = series.dropna().value_counts(sort=False)
    noisy = exact_gaussian(counts.to_numpy(dtype=np.int64), stddev, entropy=entropy)
    return [getattr(v, "item", lambda v=v: v)() for v in counts.index[noisy > threshold]]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("sound", [True, False])
def test_the_order_of_rows_decides_nothing(sound, ending, left, monkeypatch):
    if not sound:
        monkeypatch.setattr(undeclared, "_frequent", _by_first_row)
    frame = _table()
    orders = [np.arange(len(frame)), np.arange(len(frame))[::-1], np.random.default_rng(1).permutation(200)]
    schema = OPEN if ending == "parquet" else OPEN.with_columns(Categorical(name="dose", dtype="float64"))
    runs = [left(frame.iloc[o], schema, ending=ending, entropy=FixedEntropy(4)) for o in orders]
    same = all(run == runs[0] for run in runs)
    assert same is sound


ODD = [
    "@y",
    "~y",
    "y",
    "a=b",
    'say "hi", $5^$',
    "line\nbreak",
    "x/y",
    "${env}",
    "{c}",
    "1",
    "true",
    "(other)",
]


def test_no_name_collides_with_one_of_ours(left):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.integers(0, 9, 300) for name in ODD}).assign(y=["u", "v"] * 150)
    columns = [
        Categorical(name=name, values=("u", "v")) if name == "y" else Integer(name=name, min=0, max=8)
        for name in ODD
    ]
    schema = Schema(columns=tuple(columns), num_units=300, target="y")
    recipe = replace(RECIPE, generator="bayes_net", settings=bayes_net.Config())
    for ending in ("csv", "parquet"):
        files = left(frame, schema, ending=ending, recipe=recipe)
        assert [c["name"] for c in json.loads(files["release/release.json"])["schema"]["columns"]] == ODD


@pytest.mark.parametrize("first", [0.0, -0.0, None])
def test_the_first_row_does_not_decide_how_a_value_looks(first, left):
    dose = [0.0] * 200 + [1.5] * 200 if first is None else [first] + [0.0] * 200 + [1.5] * 200
    frame = pd.DataFrame({"dose": dose, "sick": True})
    schema = Schema(columns=(Categorical(name="dose"), Boolean(name="sick")), num_units=400)
    facts = json.loads(left(frame, schema)["release/release.json"])
    assert repr(facts["statistics"]["domain"][0]["values"]) == "[0.0, 1.5]"


def test_a_missing_value_changes_no_released_dtype_and_ends_no_run(left):
    columns = (
        Integer(name="age", min=0, max=9, nullable=True),
        Boolean(name="sick", nullable=True),
        Categorical(name="k", values=(1, 2, 3), nullable=True),
    )
    whole = pd.DataFrame({"age": [1, 2, 3] * 50, "sick": [True, False, True] * 50, "k": [1, 2, 3] * 50})
    found = set()
    for frame in (whole, whole.astype(object), pd.concat([whole.astype(object), whole[:1] * np.nan])):
        facts = json.loads(left(frame, Schema(columns=columns, num_units=100))["release/release.json"])
        found.add(json.dumps(facts["schema"]))
    assert len(found) == 1
