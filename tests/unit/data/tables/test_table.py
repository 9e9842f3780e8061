"""A private table shows nothing, caps every unit, and gives rows out against a receipt or a reason."""

import copy
import logging
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.data.schema import Boolean, Drop, Identifier, Integer, Schema, Unit
from dpsynth.data.tables.table import PrivateTable, Receipt
from dpsynth.data.units.units import units_of
from dpsynth.errors import GuaranteeVoid, InvalidInput


class Generous:
    """A ledger that takes every receipt back, as often as it comes."""

    def redeem(self, receipt, table):
        pass


RECEIPT = Receipt("ledger", 0, "count", Generous())
SALT = bytes(range(16))


def _schema(max_rows=2):
    unit = Unit(column="who", max_rows=max_rows)
    return Schema(columns=(Identifier(name="who"), Integer(name="value")), unit=unit)


def _frame(who):
    return pd.DataFrame({"who": [str(w) for w in who], "value": range(len(who))})


def test_repr_and_attributes_show_nothing():
    frame = _frame([7, 7, 8, 9])
    shown = {repr(PrivateTable(frame.head(n), _schema())) for n in (0, 1, 4)}
    assert len(shown) == 1
    table = PrivateTable(frame, _schema())
    assert set(dir(table)) - set(dir(object)) == {
        "__slots__", "__module__", "_frame", "schema", "read", "reveal", "fingerprint",
        "_source", "columns",
    }  # fmt: skip


@pytest.mark.parametrize(
    "look",
    [
        len,
        iter,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        lambda t: t[0],
        lambda t: t["who"],
        lambda t: t.shape,
    ],
)
def test_length_iteration_and_pickling_are_refused(look):
    with pytest.raises((TypeError, AttributeError, GuaranteeVoid)):
        look(PrivateTable(_frame([1, 2, 3]), _schema()))


def test_rows_cannot_be_replaced():
    table = PrivateTable(_frame([1, 2]), _schema())
    for name in ("_frame", "schema"):
        with pytest.raises(AttributeError):
            setattr(table, name, None)


@pytest.mark.parametrize(
    "token", [None, True, "paid", 0, ("ledger", 0, "count"), Receipt("no such ledger", 0, "count")]
)
def test_reading_needs_a_receipt(token):
    with pytest.raises(GuaranteeVoid, match="Receipt"):
        PrivateTable(_frame([1, 2]), _schema()).read(token)


def test_a_reader_cannot_change_the_table():
    table = PrivateTable(_frame([1, 2]), _schema())
    for rows in (table.read(RECEIPT), table.reveal("a test")):
        rows.loc[0, "value"] = 99
    assert table.read(RECEIPT)["value"].tolist() == [0, 1]


def test_revealing_is_logged_with_its_reason_and_without_rows(caplog):
    table = PrivateTable(_frame(["secret", "other"]), _schema())
    with caplog.at_level(logging.INFO):
        table.reveal("propensity score")
    assert "propensity score" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(GuaranteeVoid, match="reason"):
        table.reveal("  ")


@settings(max_examples=40, deadline=None)
@given(who=st.lists(st.integers(0, 5), max_size=30), cap=st.integers(1, 4))
def test_each_unit_keeps_its_first_rows(who, cap):
    kept = PrivateTable(_frame(who), _schema(cap)).read(RECEIPT)
    seen, expected = {}, []
    for place, name in enumerate(who):
        seen[name] = seen.get(name, 0) + 1
        expected += [place] if seen[name] <= cap else []
    assert kept["value"].tolist() == expected
    assert kept.index.tolist() == list(range(len(expected)))


def _cap_shuffled(frame, cap):
    """The broken twin: a seeded draw over the whole table decides which rows of a unit stay."""
    place = np.random.default_rng(0).permutation(len(frame))
    return frame.iloc[place].groupby("who").head(cap)


@pytest.mark.parametrize("broken", [False, True])
def test_removing_a_unit_changes_no_other_unit(broken):
    frame = _frame([1, 2, 1, 1, 3, 2, 2, 3])

    def capped(rows):
        return _cap_shuffled(rows, 2) if broken else PrivateTable(rows, _schema()).read(RECEIPT)

    same = True
    for name in frame["who"].unique():
        whole, fewer = capped(frame), capped(frame[frame["who"] != name])
        same &= sorted(whole[whole["who"] != name]["value"]) == sorted(fewer["value"])
    assert same is not broken


def test_a_table_of_rows_is_not_capped():
    schema = Schema(columns=(Boolean(name="b"),))
    assert len(PrivateTable(pd.DataFrame({"b": [True] * 5}), schema).read(RECEIPT)) == 5


def test_dropped_columns_are_not_held():
    schema = Schema(columns=(Boolean(name="b"), Drop(name="name")))
    table = PrivateTable(pd.DataFrame({"name": ["x", "y"], "b": [True, False]}), schema)
    assert list(table.read(RECEIPT)) == ["b"]


def test_wrong_columns_are_listed_at_once():
    frame = pd.DataFrame([[1, 2, 3]], columns=["who", "vlue", "who"])
    with pytest.raises(InvalidInput) as caught:
        PrivateTable(frame, _schema())
    assert "'value': Is declared but not in the table" in str(caught.value)
    assert "column 2: Is not declared" in str(caught.value)
    assert "vlue" not in str(caught.value)
    assert "'vlue'" in caught.value.shown
    assert "'who': Its name occurs more than once" in str(caught.value)


def test_an_empty_table_is_a_table():
    table = PrivateTable(_frame([]), _schema())
    assert table.read(RECEIPT).empty
    assert len(table.fingerprint(SALT)) == 64


def test_fingerprints_tell_tables_apart_only_with_their_salt():
    frame = _frame([1, 2, 3])
    own = PrivateTable(frame, _schema()).fingerprint(SALT)
    assert own == PrivateTable(frame.copy(), _schema()).fingerprint(SALT)
    # The same rows in another order, or under another declaration, are the same table.
    assert own == PrivateTable(frame.iloc[::-1], _schema()).fingerprint(SALT)
    assert own == PrivateTable(frame[["value", "who"]], _schema()).fingerprint(SALT)
    assert own == PrivateTable(frame, _schema(3)).fingerprint(SALT)
    others = [
        PrivateTable(frame, _schema()).fingerprint(SALT[::-1]),
        PrivateTable(frame.head(2), _schema()).fingerprint(SALT),
        PrivateTable(frame.assign(value=[0, 1, 3]), _schema()).fingerprint(SALT),
    ]
    assert len({own, *others}) == 4
    with pytest.raises(GuaranteeVoid, match="16 bytes"):
        PrivateTable(frame, _schema()).fingerprint(b"short")


def test_owners_number_units_by_first_appearance():
    frame = _frame([8, 3, 8, 5])
    assert units_of(_schema()).owners(frame).tolist() == [0, 1, 0, 2]
    rows = Schema(columns=(Identifier(name="who"), Integer(name="value")))
    assert np.array_equal(units_of(rows).owners(frame), np.arange(4))
