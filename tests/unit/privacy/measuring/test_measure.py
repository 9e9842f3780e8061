"""What is bought, by whom, how often, and how far one unit can move it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.bought.statistics import Question
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Categorical, Identifier, Integer, Schema, Unit
from dpsynth.data.tables.table import PrivateTable, Receipt
from dpsynth.errors import BudgetExceeded, GuaranteeVoid
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.measuring.joint_histograms import joint_histograms
from dpsynth.privacy.measuring.measure import measure
from dpsynth.privacy.noise.entropy import AesEntropy, FixedEntropy
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request

COLUMNS = (Integer(name="age", min=0, max=9), Categorical(name="sex", values=("f", "m"), nullable=True))
ROWS = Schema(columns=COLUMNS)
PEOPLE = Schema(columns=(Identifier(name="id"), *COLUMNS), unit=Unit(column="id", max_rows=3))
NONE = PrivacyConfig(name="none", epsilon=None)


def frame(num=400, seed=0):
    draw = np.random.default_rng(seed)
    sex = draw.choice(np.array(["f", "m", None], dtype=object), num)
    return pd.DataFrame({"id": np.arange(num) // 2, "age": draw.integers(0, 10, num), "sex": sex})


def rows(num=400):
    return frame(num).drop(columns="id")


def run(tmp_path, schema, table, privacy=None, entropy=None):
    plan = make_plan(privacy or PrivacyConfig(), TrainingConfig(steps=50), schema, Request(trains=False))
    ledger = Ledger.create(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", plan)
    return measure(PrivateTable(table, schema), plan, ledger, entropy or AesEntropy()), ledger, plan


def test_without_privacy_the_same_code_counts_exactly(tmp_path):
    statistics, _, _ = run(tmp_path, ROWS, rows(), NONE)
    assert statistics.num_units == statistics.num_rows == 400.0
    table = rows()
    assert statistics.fine["age"].counts.tolist() == np.bincount(table["age"], minlength=10).tolist()
    assert statistics.fine["sex"].counts.tolist() == [
        *(float((table["sex"] == v).sum()) for v in ("f", "m")),
        float(table["sex"].isna().sum()),
    ]


def test_entities_are_counted_as_units(tmp_path):
    statistics, _, _ = run(tmp_path, PEOPLE, frame(), NONE)
    assert (statistics.num_units, statistics.num_rows) == (200.0, 400.0)


def test_noise_has_the_planned_deviation(tmp_path):
    """240 cells over 20 runs; a deviation off by 30 % is 6.6 standard errors away (false alarm 5e-11)."""
    errors = []
    for _ in range(20):
        statistics, _, plan = run(tmp_path, ROWS, rows(), PrivacyConfig(epsilon=4.0))
        exact = np.bincount(rows()["age"], minlength=10)
        errors += list(statistics.fine["age"].counts - exact)
    planned = plan.event("columns/histograms").noise_stddev
    assert statistics.fine["age"].noise_stddev == planned
    assert 0.7 < np.std(errors) / planned < 1.3


@pytest.mark.parametrize(("schema", "make"), [(ROWS, rows), (PEOPLE, frame)])
def test_no_unit_moves_a_joint_vector_by_more_than_its_sensitivity(tmp_path, schema, make):
    """Brute force over ten neighbours: remove one unit with all its rows."""
    full = make(60)
    plan = make_plan(NONE, TrainingConfig(steps=5), schema, Request(trains=False))
    bound = plan.event("columns/histograms").sensitivity

    def vector(table):
        statistics, _, _ = run(tmp_path, schema, table, NONE)
        return np.concatenate([statistics.fine[n].counts for n in ("age", "sex")]), statistics.num_units

    counts, units = vector(full)
    unit = full["id"] if "id" in full else full.index
    for one in range(10):
        fewer, fewer_units = vector(full[unit != one].reset_index(drop=True))
        assert np.linalg.norm(counts - fewer) <= bound + 1e-9
        assert units - fewer_units == 1.0


def test_a_unit_with_too_many_rows_counts_only_up_to_its_cap(tmp_path):
    """Without the cap this unit would move the histograms by 50 * sqrt(2)."""
    hog = pd.DataFrame({"id": [7] * 50, "age": [1] * 50, "sex": ["f"] * 50})
    statistics, _, plan = run(tmp_path, PEOPLE, hog, NONE)
    assert statistics.fine["age"].counts.sum() == 3.0
    assert plan.event("columns/histograms").sensitivity == pytest.approx(3 * np.sqrt(2))


def test_every_read_is_charged_and_finished(tmp_path, monkeypatch):
    receipts = []
    read = PrivateTable.read
    monkeypatch.setattr(
        PrivateTable, "read", lambda self, receipt: receipts.append(receipt) or read(self, receipt)
    )
    _, ledger, plan = run(tmp_path, ROWS, rows())
    assert [r.label for r in receipts] == [e.name for e in plan.events] == ["count", "columns/histograms"]
    assert all(isinstance(r, Receipt) and r.ledger_id == ledger.id for r in receipts)
    assert all(ledger.is_finished(e.name) for e in plan.events)


def test_a_refused_charge_reads_nothing(tmp_path, monkeypatch):
    plan = make_plan(PrivacyConfig(), TrainingConfig(steps=50), ROWS, Request(trains=False))
    ledger = Ledger.create(tmp_path / "ledger.jsonl", plan)
    monkeypatch.setattr(PrivateTable, "read", lambda *_: pytest.fail("read without a charge"))
    monkeypatch.setattr(Ledger, "charge", lambda *_: (_ for _ in ()).throw(BudgetExceeded("no")))
    with pytest.raises(BudgetExceeded):
        measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy())


def test_asking_again_without_kept_answers_is_refused(tmp_path):
    _, ledger, plan = run(tmp_path, ROWS, rows())
    with pytest.raises(GuaranteeVoid, match="was bought, but is gone"):
        measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy())


def test_a_resumed_run_takes_its_kept_answers_and_reads_nothing(tmp_path, monkeypatch):
    plan = make_plan(PrivacyConfig(), TrainingConfig(steps=50), ROWS, Request(trains=False))
    kept = {"answers": tmp_path / "answers.json"}
    with Ledger.create(tmp_path / "ledger.jsonl", plan) as ledger:
        first = measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy(), **kept)
    monkeypatch.setattr(PrivateTable, "read", lambda *_: pytest.fail("read twice"))
    with Ledger.resume(tmp_path / "ledger.jsonl", plan) as ledger:
        second = measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy(), **kept)
        assert second.to_dict() == first.to_dict()
    answers = json.loads(kept["answers"].read_text())
    answers["count"][0] += 1.0
    kept["answers"].write_text(json.dumps(answers))
    with (
        Ledger.resume(tmp_path / "ledger.jsonl", plan) as ledger,
        pytest.raises(GuaranteeVoid, match="count"),
    ):
        measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy(), **kept)


def test_a_crash_between_charge_and_answer_pays_once(tmp_path, monkeypatch):
    plan = make_plan(PrivacyConfig(), TrainingConfig(steps=50), ROWS, Request(trains=False))
    kept = {"answers": tmp_path / "answers.json"}
    with Ledger.create(tmp_path / "ledger.jsonl", plan) as ledger, monkeypatch.context() as patch:
        patch.setattr(PrivateTable, "read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy(), **kept)
    with Ledger.resume(tmp_path / "ledger.jsonl", plan) as ledger:
        measure(PrivateTable(rows(), ROWS), plan, ledger, AesEntropy(), **kept)
        assert [r["event"] for r in ledger.records if r["kind"] == "charge"] == [
            "count",
            "columns/histograms",
        ]
        assert ledger.spent().pld <= 1.0


def test_fixed_noise_voids_the_ledger(tmp_path):
    _, ledger, _ = run(tmp_path, ROWS, rows(), entropy=FixedEntropy())
    assert ledger.void_reasons
    _, ledger, _ = run(tmp_path, ROWS, rows())
    assert not ledger.void_reasons


def test_an_empty_table_gives_noise_and_no_error(tmp_path):
    statistics, _, _ = run(tmp_path, ROWS, rows(0))
    assert statistics.num_units >= 1.0
    assert statistics.fine["age"].counts.std() > 0.0


def test_joint_histograms_count_pairs_within_the_planned_number(tmp_path):
    plan = make_plan(NONE, TrainingConfig(steps=5), ROWS, Request(trains=False, num_marginals=1))
    ledger = Ledger.create(tmp_path / "ledger.jsonl", plan)
    table = PrivateTable(rows(), ROWS)
    statistics = measure(table, plan, ledger, AesEntropy())
    encoder, pair = TableEncoder(ROWS, statistics, "bins"), Question(columns=("age", "sex"))
    with pytest.raises(GuaranteeVoid, match="Expected 1 joint"):
        joint_histograms(table, statistics, encoder, [pair, pair], plan, ledger, AesEntropy())
    bought = joint_histograms(table, statistics, encoder, [pair], plan, ledger, AesEntropy()).marginals[0]
    codes = statistics.domain.codes(rows())
    assert bought.counts.shape == statistics.domain.sizes
    assert bought.counts[3, 1] == ((codes[:, 0] == 3) & (codes[:, 1] == 1)).sum()
    assert bought.counts.sum() == 400.0


def test_another_plan_than_the_ledgers_is_refused(tmp_path):
    plan = make_plan(PrivacyConfig(), TrainingConfig(steps=50), ROWS, Request(trains=False))
    ledger = Ledger.create(tmp_path / "ledger.jsonl", plan)
    other = make_plan(PrivacyConfig(epsilon=9.0), TrainingConfig(steps=50), ROWS, Request(trains=False))
    with pytest.raises(GuaranteeVoid, match="another plan"):
        measure(PrivateTable(rows(), ROWS), other, ledger, AesEntropy())
