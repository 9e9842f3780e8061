"""Charge before read, once, on disk."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable, Receipt
from dpsynth.errors import BudgetExceeded, GuaranteeVoid
from dpsynth.privacy.accounting.events import event_from_dict, event_to_dict
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.ledger.lines import check_chain, line_hash
from dpsynth.privacy.ledger.tip import read_intact
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request

SCHEMA = Schema(columns=(Integer(name="age", min=0, max=9), Categorical(name="sex", values=("f", "m"))))


@pytest.fixture(scope="module")
def plan():
    return make_plan(PrivacyConfig(), TrainingConfig(steps=100), SCHEMA, Request(trains=True))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def test_a_charge_is_on_disk_before_its_receipt_exists(path, plan, monkeypatch):
    synced = []
    with Ledger.create(path, plan) as ledger:
        monkeypatch.setattr(os, "fsync", lambda file: synced.append(path.read_text().splitlines()[-1]))
        receipt = ledger.charge("count")
    assert json.loads(synced[-1])["event"] == "count"
    assert (receipt.ledger_id, receipt.event_index, receipt.label) == (ledger.id, 1, "count")


def test_every_event_is_paid_once(path, plan):
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
        with pytest.raises(BudgetExceeded, match="charged"):
            ledger.charge("count")
        ledger.finish("count")
        with pytest.raises(BudgetExceeded, match="charged"):
            ledger.charge("count")


def test_what_is_not_planned_or_comes_too_late_is_refused(path, plan):
    with Ledger.create(path, plan) as ledger:
        with pytest.raises(BudgetExceeded, match="no event 'columns/range'"):
            ledger.charge("columns/range")
        ledger.charge("training")
        with pytest.raises(BudgetExceeded, match="comes before"):
            ledger.charge("count")


def test_a_plan_above_its_guarantee_never_becomes_a_ledger(path, plan):
    """The ledger composes the events itself; a plan that states a low epsilon is not believed."""
    greedy = replace(plan, guarantee=replace(plan.guarantee, epsilon=0.9), epsilon=0.1)
    with pytest.raises(BudgetExceeded, match=r"needs epsilon=0\.99"):
        Ledger.create(path, greedy)
    assert not path.exists()


def test_an_existing_ledger_is_not_written_over(path, plan):
    Ledger.create(path, plan).close()
    with pytest.raises(GuaranteeVoid, match="exists"):
        Ledger.create(path, plan)


def test_a_crashed_run_continues_its_open_event_and_pays_nothing(path, plan):
    with Ledger.create(path, plan) as ledger:
        before = ledger.charge("count").event_index
    with Ledger.resume(path, plan) as ledger:
        assert ledger.charge("count").event_index == before
        with pytest.raises(BudgetExceeded):  # once per resumption: a second answer would be free
            ledger.charge("count")
        assert [r["kind"] for r in ledger.records] == ["plan", "charge", "continue"]


def test_a_finished_event_is_never_continued(path, plan):
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
        ledger.finish("count", "digest")
    with Ledger.resume(path) as ledger:
        assert ledger.digest("count") == "digest"
        with pytest.raises(BudgetExceeded):
            ledger.charge("count")
        with pytest.raises(GuaranteeVoid):
            ledger.finish("count")


def test_two_processes_cannot_continue_one_event(path, plan):
    with Ledger.create(path, plan) as ledger:
        ledger.charge("training")
        code = f"from dpsynth.privacy.ledger.ledger import Ledger; Ledger.resume({str(path)!r})"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "Another process" in child.stderr
        with pytest.raises(GuaranteeVoid, match="Another process"):
            Ledger.resume(path)


def test_a_line_cut_off_by_a_crash_was_never_paid_for(path, plan):
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
    with open(path, "a") as file:
        file.write('{"event":"columns/histo')
    with Ledger.resume(path) as ledger:
        assert len(ledger.records) == 2
        ledger.charge("columns/histograms")
    assert not check_chain([json.loads(line) for line in path.read_text().splitlines()])


def test_another_plan_does_not_resume(path, plan):
    Ledger.create(path, plan).close()
    other = make_plan(PrivacyConfig(epsilon=2.0), TrainingConfig(steps=100), SCHEMA, Request(trains=True))
    with pytest.raises(GuaranteeVoid, match="another plan"):
        Ledger.resume(path, other)


def _edit_noise(lines):
    lines[0]["plan"]["events"][0]["noise_multiplier"] = 1e6
    return lines


def _drop_a_charge(lines):
    return lines[:1] + lines[2:]


def _swap(lines):
    return [lines[0], lines[2], lines[1]]


@pytest.mark.parametrize("tamper", [_edit_noise, _drop_a_charge, _swap])
def test_tampering_shows(path, plan, tamper):
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
        ledger.charge("columns/histograms")
        records = ledger.records
    assert check_chain(records) == []
    assert check_chain(tamper(json.loads(json.dumps(records))))
    path.write_text("".join(json.dumps(line) + "\n" for line in tamper(records)))
    with pytest.raises(GuaranteeVoid, match="not intact"):
        Ledger.resume(path)


def test_a_rehashed_second_charge_shows_as_well(path, plan):
    """A forger who recomputes hashes still cannot hide that an event was read twice."""
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
        records = ledger.records
    body = {"index": 2, "previous": records[-1]["hash"], "kind": "charge", "event": "count"}
    assert any("second time" in fault for fault in check_chain([*records, {**body, "hash": line_hash(body)}]))


@pytest.fixture
def table():
    return PrivateTable(pd.DataFrame({"age": [1, 2], "sex": ["f", "m"]}), SCHEMA)


def test_a_receipt_is_good_for_one_read_of_one_table(path, plan, table):
    with Ledger.create(path, plan) as ledger:
        receipt = ledger.charge("count")
        forged = [copy.copy(receipt), replace(receipt), Receipt(ledger.id, 1, "count", ledger)]
        for other in (*forged, Receipt("no such ledger", 0, "nothing")):
            with pytest.raises(GuaranteeVoid, match="[Rr]eceipt"):
                table.read(other)
        assert len(table.read(receipt)) == 2
        with pytest.raises(GuaranteeVoid, match="read against"):
            table.read(receipt)
        second = PrivateTable(table.reveal("a test"), SCHEMA)
        with pytest.raises(GuaranteeVoid, match="another table"):
            second.read(ledger.charge("columns/histograms"))


def test_a_closed_ledger_takes_no_receipt_back(path, plan, table):
    """Another process may continue the event by then, and would read for the same charge."""
    with Ledger.create(path, plan) as ledger:
        receipt = ledger.charge("count")
    with pytest.raises(GuaranteeVoid):
        table.read(receipt)


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_a_cut_ledger_is_noticed(path, plan, lines):
    """Any beginning of a chain is a chain; what was charged after it must not be forgotten."""
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
        ledger.finish("count")
        ledger.charge("columns/histograms")
    whole = path.read_bytes().splitlines(keepends=True)
    assert len(read_intact(path)) == len(whole) == 4
    path.write_bytes(b"".join(whole[:lines]))
    for look in (Ledger.resume, read_intact):
        with pytest.raises(GuaranteeVoid, match="not intact"):
            look(path)


@pytest.mark.parametrize("tip", [None, "", "0", "3 f00", "x y"])
def test_a_lost_or_changed_tip_is_noticed(path, plan, tip):
    with Ledger.create(path, plan) as ledger:
        ledger.charge("count")
        ledger.finish("count")
        ledger.charge("columns/histograms")
    place = path.with_name("ledger.jsonl.tip")
    place.unlink() if tip is None else place.write_text(tip)
    with pytest.raises(GuaranteeVoid, match="tip beside it|written anew"):
        read_intact(path)


def test_a_tip_that_a_crash_left_behind_is_no_fault(path, plan):
    place = path.with_name("ledger.jsonl.tip")
    with Ledger.create(path, plan) as ledger:
        before = place.read_text()
        ledger.charge("count")
    place.write_text(before)
    Ledger.resume(path, plan).close()


def test_a_kill_before_the_first_whole_line_leaves_no_ledger(path, plan, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    for step in ("write", "fsync", "link"):
        with monkeypatch.context() as patched:
            patched.setattr(os, step, die)
            with pytest.raises(Killed):
                Ledger.create(path, plan)
        assert not path.exists()
    Ledger.create(path, plan).close()


def test_a_ledger_that_is_gone_is_named(path, plan):
    for look in (Ledger.resume, read_intact):
        with pytest.raises(GuaranteeVoid, match="ledger.jsonl"):
            look(path)


def test_where_a_training_is_computed_may_change(path, plan):
    Ledger.create(path, plan).close()
    elsewhere = replace(plan.training, physical_batch_size=7, backend="vmap", device="cuda")
    Ledger.resume(path, replace(plan, training=elsewhere)).close()
    with pytest.raises(GuaranteeVoid, match="another plan"):
        Ledger.resume(path, replace(plan, training=replace(plan.training, max_grad_norm=2.0)))


def test_void_is_for_good(path, plan):
    with Ledger.create(path, plan) as ledger:
        assert ledger.void_reasons == ()
        ledger.void("a test source of noise")
        ledger.void("a test source of noise")
    with Ledger.resume(path) as ledger:
        assert ledger.void_reasons == ("a test source of noise",)


def test_spent_counts_what_was_charged(path, plan):
    with Ledger.create(path, plan) as ledger:
        assert ledger.spent().pld == 0.0
        ledger.charge("count")
        first = ledger.spent().pld
        for name in ("columns/histograms", "training"):
            ledger.charge(name)
        assert 0.0 < first < ledger.spent().pld == plan.epsilon <= 1.0


def test_a_ledger_does_not_leave_its_process(path, plan):
    with Ledger.create(path, plan) as ledger, pytest.raises(GuaranteeVoid):
        pickle.dumps(ledger)
    with pytest.raises(GuaranteeVoid, match="closed"):
        ledger.charge("count")


def test_events_survive_json():
    open_schema = Schema(columns=(Integer(name="n", min=None, max=None), Categorical(name="c", values=None)))
    for event in make_plan(PrivacyConfig(), TrainingConfig(), open_schema, Request(trains=True)).events:
        assert event_from_dict(json.loads(json.dumps(event_to_dict(event.event)))) == event.event
