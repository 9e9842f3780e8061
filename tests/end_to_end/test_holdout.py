"""The holdout of a run is secret, stays the same for whoever has its coins, and belongs to one table."""

from __future__ import annotations

import stat

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Integer, Schema
from dpsynth.errors import InvalidInput
from dpsynth.study import holdout
from dpsynth.study.holdout import same_again, set_aside

SCHEMA = Schema(columns=(Integer(name="x", min=0, max=10_000),), num_units=500)
TABLE = pd.DataFrame({"x": np.arange(500)})


def test_a_run_goes_on_with_its_coins_and_a_new_one_has_its_own(tmp_path):
    train, held = set_aside(TABLE, SCHEMA, 0.2, tmp_path, tmp_path / "internal")
    assert sorted([*train.x, *held.x]) == list(range(500)) and 40 < len(held) < 170
    for again in (
        set_aside(TABLE, SCHEMA, 0.2, tmp_path, tmp_path / "x"),
        same_again(TABLE, SCHEMA, 0.2, tmp_path),
    ):
        assert again[0].equals(train) and again[1].equals(held)
    (tmp_path / "other").mkdir()
    other = set_aside(TABLE, SCHEMA, 0.2, tmp_path / "other", tmp_path / "other/internal")
    assert not other[1].equals(held)
    for path in (tmp_path / holdout.FILE, tmp_path / "internal/holdout.secret"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_points_of_a_sweep_are_tested_on_the_same_rows(tmp_path):
    sides = []
    for point in "01":
        (tmp_path / point).mkdir()
        sides.append(set_aside(TABLE, SCHEMA, 0.2, tmp_path / point, tmp_path / "internal"))
    assert sides[0][1].equals(sides[1][1])


def test_coins_go_with_every_release_of_a_run(tmp_path):
    (tmp_path / "rung").mkdir()
    _, held = set_aside(TABLE, SCHEMA, 0.2, tmp_path, tmp_path / "internal")
    holdout.copy(tmp_path, tmp_path / "rung")
    assert same_again(TABLE, SCHEMA, 0.2, tmp_path / "rung")[1].equals(held)
    assert stat.S_IMODE((tmp_path / "rung" / holdout.FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "changed",
    [TABLE.iloc[1:], TABLE.iloc[::-1], TABLE.assign(x=TABLE.x + (TABLE.index == 7))],
    ids=["a row fewer", "another order", "another value"],
)
def test_another_table_is_refused_before_its_rows_are_mixed(changed, tmp_path):
    set_aside(TABLE, SCHEMA, 0.2, tmp_path, tmp_path / "internal")
    with pytest.raises(InvalidInput, match="not the one whose units"):
        set_aside(changed.reset_index(drop=True), SCHEMA, 0.2, tmp_path, tmp_path / "internal")


def test_lost_coins_are_refused_and_not_flipped_again(tmp_path):
    set_aside(TABLE, SCHEMA, 0.2, tmp_path, tmp_path / "internal")
    (tmp_path / "ledger.jsonl").touch()
    (tmp_path / holdout.FILE).unlink()
    with pytest.raises(InvalidInput, match="lost"):
        set_aside(TABLE, SCHEMA, 0.2, tmp_path, tmp_path / "internal")
    with pytest.raises(InvalidInput, match="not there"):
        same_again(TABLE, SCHEMA, 0.2, tmp_path)
    assert len(set_aside(TABLE, SCHEMA, 0.0, tmp_path, tmp_path / "internal")[1]) == 0
