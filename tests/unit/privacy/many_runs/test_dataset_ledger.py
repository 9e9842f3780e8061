"""What runs on one table spend together is kept, adds up against closed forms, and is never overdrawn."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dp_accounting import dp_event

from dpsynth.data.schema import Boolean, Categorical, Continuous, Drop, Integer, Schema
from dpsynth.data.tables.io import read_table
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import BudgetExceeded, GuaranteeVoid
from dpsynth.privacy.accounting.accountants import FailureDpEvent, epsilon
from dpsynth.privacy.accounting.calibration import gaussian_noise_multiplier
from dpsynth.privacy.many_runs.costs import run_cost, total
from dpsynth.privacy.many_runs.dataset_ledger import DatasetLedger, default_path

ROOT = Path(__file__).resolve().parents[4]
DELTA = 1e-5


def gaussian(budget: float):
    """The cost of one Gaussian mechanism with this epsilon, exactly."""
    return run_cost([dp_event.GaussianDpEvent(gaussian_noise_multiplier(budget, DELTA))], budget, DELTA)


@pytest.fixture
def ledger(tmp_path):
    return DatasetLedger(tmp_path / "spent.sqlite")


@pytest.mark.parametrize("runs", [1, 2, 5, 20])
def test_totals_lie_above_the_exact_composition_and_near_it(runs):
    noise = gaussian_noise_multiplier(1.0, DELTA) / math.sqrt(runs)  # Gaussians compose to one, exactly
    exact = epsilon([dp_event.GaussianDpEvent(noise)], DELTA).pld
    assert 0.999 * exact <= total([gaussian(1.0)] * runs, DELTA) <= 1.3 * exact


def test_one_run_costs_its_claim_and_sums_hold_where_deltas_add_up():
    assert total([], DELTA) == 0.0 and total([gaussian(1.0)], DELTA) == 1.0
    assert total([gaussian(1.0)] * 2, 2 * DELTA) <= 2.0


def test_failures_use_up_delta():
    fails = run_cost([dp_event.GaussianDpEvent(4.0), FailureDpEvent(0.6 * DELTA)], 1.0, DELTA)
    assert math.isfinite(total([fails], DELTA)) and math.isinf(total([fails, fails], DELTA))
    assert math.isfinite(total([fails, fails], 2 * DELTA))


def test_a_run_that_would_overdraw_is_refused_and_not_charged(ledger):
    for run in range(3):
        spent = ledger.charge("table", f"run{run}", gaussian(1.0), delta=DELTA, lifetime_epsilon=2.5)
    assert spent.num_runs == 3 and 1.7 < spent.epsilon <= 2.5
    with pytest.raises(BudgetExceeded, match="lifetime_epsilon=2.5.*Nothing was read"):
        ledger.charge("table", "run3", gaussian(2.0), delta=DELTA, lifetime_epsilon=2.5)
    assert ledger.spent("table", DELTA) == spent
    ledger.charge("another table", "run3", gaussian(2.0), delta=DELTA, lifetime_epsilon=2.5)
    assert ledger.spent("table", DELTA) == spent


def test_a_resumed_run_is_charged_once_and_not_at_another_price(ledger):
    first = ledger.charge("table", "run", gaussian(1.0), delta=DELTA, lifetime_epsilon=1.0)
    assert ledger.charge("table", "run", gaussian(1.0), delta=DELTA, lifetime_epsilon=1.0) == first
    assert DatasetLedger(ledger.path).spent("table", DELTA) == first
    with pytest.raises(GuaranteeVoid, match="another cost"):
        ledger.charge("table", "run", gaussian(0.5), delta=DELTA)


def test_runs_without_privacy_are_counted_apart(ledger):
    spent = ledger.charge("table", "open", run_cost([], None, DELTA), delta=DELTA, lifetime_epsilon=1.0)
    assert (spent.epsilon, spent.num_runs, spent.num_open) == (0.0, 0, 1) and "may leave" in spent.text()


def test_the_key_is_salted_and_the_file_is_its_owners(ledger, tmp_path):
    schema = Schema(columns=(Integer(name="age", min=0, max=9),))
    table, again, other = (
        PrivateTable(pd.DataFrame({"age": ages}), schema) for ages in ([1, 2, 3], [3, 1, 2], [1, 2, 4])
    )
    assert ledger.key(table) == ledger.key(again) != ledger.key(other)
    assert DatasetLedger(ledger.path).key(table) == ledger.key(table)
    assert DatasetLedger(tmp_path / "other.sqlite").key(table) != ledger.key(table)
    assert stat.S_IMODE(os.stat(ledger.path).st_mode) == 0o600


def test_kinds_clipping_formats_and_dropped_columns_are_one_table(ledger, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(0, 90, 100), "y": rng.integers(0, 2, 100)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    frame.rename(columns={"age": "years"}).sample(frac=1.0, random_state=0).to_csv(
        tmp_path / "r.csv", index=False
    )
    frame.assign(id=range(100)).to_csv(tmp_path / "more.tsv", sep="\t", index=False)
    base = Schema(columns=(Integer(name="age", min=0, max=99), Integer(name="y", min=0, max=1)))
    years = Schema(columns=(Integer(name="years", min=0, max=99), Integer(name="y", min=0, max=1)))
    more = Schema(columns=(*base.columns, Drop(name="id")))
    changes = [
        Integer(name="age", min=0, max=99, nullable=True),
        Integer(name="age", min=0, max=99, dtype="int32"),
        Integer(name="age", min=0, max=80, clip=True),
        Continuous(name="age", min=0, max=99),
        Boolean(name="y"),
        Categorical(name="y", values=("0", "1")),
        Drop(name="y"),
    ]
    forms = [("t.csv", base), ("t.parquet", base), ("r.csv", years), ("more.tsv", more)]
    forms += [("t.csv", base.with_columns(change)) for change in changes]
    keys = {ledger.key(PrivateTable(read_table(tmp_path / path, s), s)) for path, s in forms}
    keys.add(ledger.key(PrivateTable(frame, base)))
    keys.add(ledger.key(PrivateTable(frame[["y", "age"]].astype("float64"), base)))
    part = read_table(tmp_path / "t.csv", base)
    keys.add(ledger.key(PrivateTable(part[part["y"] == 1], base)))  # a part remembers of what it is one
    assert len(keys) == 1
    other = frame.assign(
        age=frame["age"].sample(frac=1, replace=True, random_state=1).to_numpy(), y=frame["y"][::-1]
    )
    assert ledger.key(PrivateTable(other.assign(y=0), base)) not in keys


AGES = Schema(columns=(Integer(name="age", min=0, max=9),))


def ages(*values: int) -> PrivateTable:
    return PrivateTable(pd.DataFrame({"age": values}), AGES)


def test_a_name_keeps_the_account_whatever_becomes_of_the_rows(ledger):
    named = ledger.key(ages(1, 2, 3), "study")
    assert ledger.key(ages(7, 8), "study") == named == ledger.key(ages(8, 7)) == ledger.key(ages(3, 2, 1))
    with pytest.raises(GuaranteeVoid, match="privacy.dataset='study'"):
        ledger.key(ages(1, 2, 3), "another name, a fresh budget")
    assert ledger.key(ages(5), "another study") != named


def test_a_table_that_was_known_by_its_columns_can_be_named_later(ledger):
    first, second = ledger.key(ages(1, 2)), ledger.key(ages(1, 2, 3))
    assert first != second
    for key in (first, second):
        ledger.charge(key, f"run of {key}", gaussian(1.0), delta=DELTA)
    assert ledger.key(ages(1, 2), "study") == first
    joined = ledger.key(ages(1, 2, 3), "study")  # both turn out to be one table
    assert ledger.spent(joined, DELTA).num_runs == 2


def _emptied(path):
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM charges")


@pytest.mark.parametrize("lose", [os.remove, _emptied, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("knows", ["the list", "a run"])
def test_a_store_that_lost_charges_is_refused(ledger, lose, knows):
    ledger.charge("table", "run", gaussian(1.0), delta=DELTA)
    lose(ledger.path)
    told = ()
    if knows == "a run":
        ledger.path.with_name("spent.sqlite.runs").unlink()
        told = ("run",)
    for run in ("run", "another"):
        with pytest.raises(GuaranteeVoid, match="lost what 1 runs charged"):
            ledger.charge("table", run, gaussian(1.0), delta=DELTA, witnesses=told)


@pytest.mark.parametrize("content", [b"garbage", b"SQLite format 3\0" + b"\0" * 200])
def test_a_damaged_store_is_named(ledger, content):
    ledger.path.write_bytes(content)
    with pytest.raises(GuaranteeVoid, match="spent.sqlite is damaged"):
        ledger.charge("table", "run", gaussian(1.0), delta=DELTA)


def test_a_store_of_an_earlier_version_sets_no_limit(ledger):
    ledger.charge("table", "run", gaussian(1.0), delta=DELTA)
    with sqlite3.connect(ledger.path) as database:
        database.execute("PRAGMA user_version = 0")
    ledger.charge("table", "run2", gaussian(1.0), delta=DELTA)
    with pytest.raises(GuaranteeVoid, match="earlier dpsynth"):
        ledger.charge("table", "run3", gaussian(1.0), delta=DELTA, lifetime_epsilon=9.0)


def test_the_users_own_file_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "dpsynth" / "spent.sqlite" == DatasetLedger().path


RACE = """
import sys, time
from dpsynth.errors import BudgetExceeded
from dpsynth.privacy.many_runs import dataset_ledger
from dpsynth.privacy.many_runs.costs import Cost
from dpsynth.privacy.many_runs.dataset_ledger import DatasetLedger
slow = lambda costs, delta: time.sleep(0.02) or sum(cost.epsilon for cost in costs)
dataset_ledger.total = slow
ledger, granted = DatasetLedger(sys.argv[1]), 0
if sys.argv[3] == "twin":  # looks, then charges
    charge = DatasetLedger.charge
    def halves(self, key, run, cost, **limits):
        if self.spent(key, 1e-5).epsilon + cost.epsilon > limits.pop("lifetime_epsilon"):
            raise BudgetExceeded("")
        return charge(self, key, run, cost, **limits)
    DatasetLedger.charge = halves
print("ready", flush=True)
sys.stdin.readline()
for i in range(5):
    try:
        cost = Cost(epsilon=1.0, delta=1e-5, curve=(1.0,))
        ledger.charge("table", f"{sys.argv[2]}-{i}", cost, delta=1e-5, lifetime_epsilon=4.0)
        granted += 1
    except BudgetExceeded:
        pass
print(granted)
"""


def raced(path: Path, kind: str) -> int:
    """How many runs four processes get out of a budget that holds four."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    words = [[sys.executable, "-c", RACE, str(path), name, kind] for name in "abcd"]
    racing = [subprocess.Popen(word, **pipes) for word in words]
    for process in racing:
        assert process.stdout.readline() == "ready\n"
    for process in racing:  # all at once
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(int(process.communicate(timeout=120)[0]) for process in racing)


def test_parallel_processes_together_stay_within_the_budget(tmp_path):
    """Broken twin: what is left is read before the charge, in a transaction of its own."""
    assert raced(tmp_path / "spent.sqlite", "ours") == 4
    assert raced(tmp_path / "twin.sqlite", "twin") > 4
