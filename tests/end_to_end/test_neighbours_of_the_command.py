"""The neighbour test for the whole command: reading, splitting, training, evaluating, choosing, recording.

One unit joins or leaves a file; every file, name, setting and number that is public or released must be equal
byte for byte, and whatever pays must be handed tables that differ in that unit alone. Each planted fault is a
broken twin that the same comparison must catch.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.data.schema import dtypes
from dpsynth.data.tables import datasets, split
from dpsynth.evaluation import frozen
from dpsynth.evaluation.types import EvaluationConfig
from dpsynth.evaluation.utility import make_task, predict_probabilities
from dpsynth.study import recipe, selection
from experiments import train
from tests.support import panels
from tests.support.whole_command import Command, Left, differences

SCHEMA = """
version: 1
num_units: 240
target: sick
columns:
  - {name: dose, kind: categorical, dtype: float64}
  - {name: age, kind: integer, min: 0, max: 99, clip: true, nullable: true}
  - {name: pay, kind: continuous, nullable: true}
  - {name: town, kind: categorical, values: [Ayr, Bath, other], other: other, nullable: true}
  - {name: sick, kind: boolean, nullable: true}
"""
ARROW = pa.schema(
    [
        ("dose", pa.float64()),
        ("age", pa.int64()),
        ("pay", pa.float64()),
        ("town", pa.string()),
        ("sick", pa.bool_()),
    ]
)
Row = dict
QUICK = ["generator=independent", "audit=none", "evaluation.models=[]", "evaluation.num_bootstraps=0"]
QUICK += ["evaluation.propensity=false", "privacy.epsilon=4", "data=csv", "data.schema=schema.yaml"]
ONE = [*QUICK, "hydra.run.dir=out"]
SWEEP = ["-m", *QUICK, "hydra.sweep.dir=out"]


def table() -> list[Row]:
    random = np.random.default_rng(0)
    sick = random.random(240) < 0.4
    return [
        {
            "dose": [0.0, 1.5][int(random.integers(2))],
            "age": int(random.integers(20, 80)),
            "pay": float(np.round(random.normal(50 + 30 * sick[i], 5), 2)),
            "town": ["Ayr", "Bath"][int(random.integers(2))],
            "sick": bool(sick[i]),
        }
        for i in range(240)
    ]


ROWS = table()
ALIAS = {**ROWS[0], "dose": -0.0}
JOINED = {
    "another look of the same": ALIAS,
    "missing": {**ROWS[0], "age": None, "pay": None, "town": None, "sick": None},
    "a new category": {**ROWS[0], "dose": 7.25, "town": "Cork"},
    "a new extreme": {**ROWS[0], "age": 4711, "pay": 1e12},
}


def as_text(row: Row) -> str:
    looks = {None: "", True: "true", False: "false"}
    return [
        looks[v] if v is None or isinstance(v, bool) else repr(v) if isinstance(v, float) else str(v)
        for v in row.values()
    ]


def write(rows: list[Row], form: str, place: Path) -> None:
    (place / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    if form in ("csv", "tsv"):
        comma = "," if form == "csv" else "\t"
        lines = [comma.join(ARROW.names), *(comma.join(as_text(row)) for row in rows)]
        (place / f"people.{form}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    found = pa.Table.from_pylist(rows, schema=ARROW)
    if form == "noted.parquet":
        nullable = {"age": "Int64", "sick": "boolean"}
        found = pa.Table.from_pandas(found.to_pandas().astype(nullable), schema=ARROW, preserve_index=False)
    pq.write_table(found, place / f"people.{form}")


FORMS = ("csv", "tsv", "parquet", "noted.parquet")


@pytest.fixture
def leave(tmp_path, monkeypatch):
    """Runs the command on rows in a file format; coins go with the rows that are in `held` by identity."""
    command = Command(tmp_path, monkeypatch)

    def run(
        rows: list[Row], form: str = "csv", words: list[str] = ONE, held: frozenset = frozenset()
    ) -> Left:
        coins = [id(row) in held or (i_of(row) % 5 == 1) for row in rows]
        return command(lambda place: write(rows, form, place), coins, [*words, f"data.path=people.{form}"])

    return run


PLACE = {id(row): i for i, row in enumerate(ROWS)}


def i_of(row: Row) -> int:
    """The place of a row in the table that all neighbours come from; a row that joined is trained on."""
    return PLACE.get(id(row), 0)


LEAVING = (0, 120, 239)  # the first, one in the middle, the last; 1, 6, 11, ... are held out


@pytest.mark.parametrize("form", FORMS)
def test_nothing_unpaid_follows_one_unit(form, leave):
    whole = leave(ROWS, form)
    assert "exit code" not in whole.public and len(whole.public) > 60
    for at in LEAVING:
        assert differences(whole, leave([*ROWS[:at], *ROWS[at + 1 :]], form)) == [], at
    for what, row in JOINED.items():
        assert differences(whole, leave([row, *ROWS], form)) == [], what


def test_it_makes_no_difference_to_be_held_out(leave):
    whole = leave(ROWS)
    held = JOINED["a new category"]
    for rows in ([held, *ROWS], [*ROWS, held], [*ROWS[:11], *ROWS[12:]]):
        there = leave(rows, held=frozenset([id(held)]))
        assert differences(whole, there) == [] and there.handed[0].equals(whole.handed[0])


TRAINED = [word for word in ONE if not word.startswith("generator")]
TRAINED += ["generator=tvae", "training.steps=2", "training.sample_rate=0.1", "generator.anchor_steps=2"]
TRAINED += ["generator.warm_steps=2", "generator.fit_pool=2000"]


def test_nothing_unpaid_follows_one_unit_through_a_training(leave):
    whole = leave(ROWS, words=TRAINED)
    assert "exit code" not in whole.public
    assert differences(whole, leave(ROWS[1:], words=TRAINED)) == []


SWEPT = [*SWEEP, "seed=0,1"]


def test_nothing_unpaid_follows_one_unit_through_a_sweep(leave):
    whole = leave(ROWS, words=SWEPT)
    assert "exit code" not in whole.public and len(whole.handed) == 2
    assert whole.handed[0].equals(whole.handed[1])  # all points have one holdout
    assert differences(whole, leave([JOINED["a new category"], *ROWS], words=SWEPT)) == []


CHOSEN = [*SWEEP, "seed=0,1", "sweep.selection=private", "sweep.mean_trials=3"]


@pytest.fixture
def two_trials(monkeypatch):
    from dpsynth.privacy.accounting.selection import Trials

    monkeypatch.setattr(Trials, "draw", lambda self: 2)
    monkeypatch.setattr(selection.secrets, "randbelow", lambda num: num - 1)


def test_nothing_unpaid_follows_one_unit_through_a_private_selection(leave, two_trials):
    whole = leave(ROWS, words=CHOSEN)
    assert "exit code" not in whole.public and len(whole.scores) == 2 and min(whole.scores) > 10
    held = JOINED["a new category"]
    assert differences(whole, leave([held, *ROWS], words=CHOSEN, held=frozenset([id(held)]))) == []


def first_look(patch):
    """Of equal values the look that comes first is the one that all get."""
    honest = datasets.load

    def load(config):
        frame, schema = honest(config)
        looks = [
            -0.0 if "-" in line.split(",")[0] else 0.0
            for line in Path(config.path).read_text().splitlines()[1:]
        ]
        zero = frame["dose"] == 0.0
        frame.loc[zero, "dose"] = looks[int(np.argmax(zero))]
        return frame, schema

    patch.setattr(datasets, "load", load)


def inferred_dtypes(patch):
    """A column's released dtype follows from whether anything is missing in it."""
    honest = dtypes.with_format

    def with_format(schema, frame, *rest):
        schema = honest(schema, frame, *rest)
        name = "float64" if frame["age"].isna().any() else "Int64"
        return schema.with_columns(dataclasses.replace(schema.column("age"), dtype=name))

    patch.setattr(dtypes, "with_format", with_format)


def coins_by_place(patch):
    """Coins go by the place in the file, under a public seed."""
    patch.setattr(split, "coins", lambda num, share, secret: np.random.default_rng(0).random(num) < share)


def unpaid_as_released(patch):
    """A figure on real rows is recorded as if it had been paid for."""
    honest = train._record

    def record(tracker, release, evaluation, folder):
        tracker.metric("released/tv", evaluation["tv_1way"].value)
        honest(tracker, release, evaluation, folder)

    patch.setattr(train, "_record", record)


def count_in_a_message(patch):
    """The plan says how many rows there are."""
    honest = datasets.load

    def load(config):
        frame, schema = honest(config)
        return frame, dataclasses.replace(schema, num_units=len(frame))

    patch.setattr(datasets, "load", load)


def delta_of_the_rows(patch):
    """Delta is one over the number of rows, as other tools have it."""
    honest = recipe.recipe_of

    def recipe_of(config):
        rows = len(Path(config.data.path).read_text().splitlines()) - 1
        return honest(
            dataclasses.replace(config, privacy=dataclasses.replace(config.privacy, delta=1 / rows))
        )

    patch.setattr(train, "recipe_of", recipe_of)


PLANTS = {
    first_look: [ALIAS, *ROWS],
    inferred_dtypes: [JOINED["missing"], *ROWS],
    coins_by_place: ROWS[1:],
    unpaid_as_released: ROWS[1:],
    count_in_a_message: ROWS[1:],
    delta_of_the_rows: ROWS[1:],
}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_of_the_command_is_caught(plant, leave, monkeypatch):
    plant(monkeypatch)
    whole, other = leave(ROWS), leave(PLANTS[plant])
    assert "exit code" not in whole.public and "exit code" not in other.public
    assert differences(whole, other) != []


def scores_together(patch):
    """The scorer's encoding lists the values of the holdout, too."""

    @dataclasses.dataclass
    class Together:
        rest: tuple

        def __call__(self, rows):
            synthetic, schema, config, seed = self.rest
            task = make_task(synthetic, rows, schema, config, seed)
            chance = predict_probabilities(task, "boosting", seed)[
                np.arange(len(task.test_target)), task.test_target
            ]
            return 1.0 - (1.0 - chance) ** 2

    patch.setattr(frozen.FrozenScore, "fit", classmethod(lambda cls, *rest: Together(rest)))


def test_scores_that_move_together_are_caught(monkeypatch):
    """In a table of 250 towns; the command hands such sums to the same comparison."""
    random = np.random.default_rng(1)
    towns = np.array([f"v{i:03d}" for i in range(250)])
    odd = random.permutation(np.r_[np.zeros(125), np.ones(125)])
    from dpsynth.data.schema import Boolean, Categorical, Schema

    schema = Schema(columns=(Categorical(name="city"), Boolean(name="sick")), target="sick", num_units=2000)

    def rows(num: int) -> pd.DataFrame:
        i = random.integers(0, 250, num)
        return pd.DataFrame({"city": towns[i], "sick": random.random(num) < np.where(odd[i] > 0, 0.95, 0.05)})

    synthetic, holdout = rows(3000), rows(1000)
    more = pd.concat([holdout, pd.DataFrame({"city": ["new town"], "sick": [True]})], ignore_index=True)

    def left() -> list[Left]:
        score = frozen.FrozenScore.fit(synthetic, schema, EvaluationConfig(), 0)
        return [Left(scores=[float(score(table).sum())]) for table in (holdout, more)]

    assert differences(*left()) == []
    scores_together(monkeypatch)
    assert differences(*left()) == ["the score of trial 0 moved by more than one"]


SEQUENCES = [word for word in ONE if not word.startswith("generator")] + ["generator=sequence_independent"]


def test_nothing_unpaid_follows_one_entity(tmp_path, monkeypatch):
    """All rows of the first entity, or of the last, join or leave; coins are the entities' own."""
    command, whole = Command(tmp_path, monkeypatch), panels.panel(40)
    names = list(dict.fromkeys(whole["who"]))

    def leave(frame: pd.DataFrame) -> Left:
        def written(place: Path) -> None:
            frame.to_csv(place / "people.csv", index=False)
            panels.SCHEMA.dump(place / "schema.yaml")

        held = [names.index(name) % 5 == 1 for name in dict.fromkeys(frame["who"])]
        return command(written, held, [*SEQUENCES, "data.path=people.csv"])

    left = leave(whole)
    assert "exit code" not in left.public
    for name in (names[0], names[-1], names[1]):
        assert differences(left, leave(whole[whole["who"] != name]), "who") == [], name
    coins_by_place(monkeypatch)
    assert differences(leave(whole), leave(whole[whole["who"] != names[0]]), "who") != []
