"""Trees of boxes: how far a unit moves a score or a leaf's count, and who pays for a division."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from parity import PEOPLE, SCHEMA, make_table
from worlds import measure

from dpsynth.data.bought.partition import Grid, Partition
from dpsynth.data.bought.questions import Ballot
from dpsynth.data.bought.statistics import Question
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.measuring import joint_histograms
from dpsynth.privacy.measuring.joint_histograms import ballot_scores

BITS = Grid(columns=("bit0", "bit1"), groups=((0, 1), (0, 1)))
TREE = Partition().divided([BITS])


def people(num: int) -> pd.DataFrame:
    """Three rows each; those of the first person are alike and of an unlikely class."""
    frame = make_table(num, seed=3)
    frame.insert(0, "id", np.arange(num) // 3)
    frame.loc[:2, ["bit0", "bit1", "bit2", "size", "label"]] = ["n", "n", "n", 1, "odd"]
    return frame


def ballot(shares: np.ndarray, partition: Partition = TREE) -> Ballot:
    halves = Grid(columns=("size",), groups=((0,) * 5 + (1,) * 5,))
    third = Grid(columns=("bit2",), groups=((0, 1),))
    return Ballot(
        partition=partition,
        target="label",
        grids=(halves, third),
        shares=(shares[None, None], shares[None, None]),
        penalties=(0.0, 3.3),
    )


SCHEMAS = pytest.mark.parametrize("schema, mass", [(SCHEMA, 1), (PEOPLE, 3)], ids=["rows", "people"])


def moves(schema, score) -> float:
    """The largest sum over parts of what any unit's absence changes."""
    frame = people(90) if schema is PEOPLE else people(90).drop(columns="id")
    encoder = TableEncoder(schema, measure(frame, schema))
    rows = encoder.encode(frame)  # by unit
    whole = score(encoder, rows)
    changes = [np.abs(score(encoder, np.delete(rows, unit, axis=0)) - whole) for unit in range(30)]
    return max(float(change.reshape(len(change), -1).max(1).sum()) for change in changes)


@SCHEMAS
def test_a_unit_moves_the_scores_of_all_leaves_together_by_no_more_than_its_rows(schema, mass):
    unlikely = ballot(np.array([0.999, 0.0]))
    moved = moves(schema, lambda encoder, rows: ballot_scores(encoder, unlikely, rows))
    assert 0.9 * mass < moved <= mass


@SCHEMAS
def test_whole_distances_would_break_the_bound(schema, mass, monkeypatch):
    """Broken twin: a row leaves one class and the others gain, so the whole L1 distance moves by two."""
    unlikely = ballot(np.array([0.999, 0.0]))
    moved = moves(schema, lambda encoder, rows: 2.0 * ballot_scores(encoder, unlikely, rows))
    assert moved > mass


@SCHEMAS
def test_a_unit_moves_a_trees_histogram_by_no_more_than_its_rows(schema, mass):
    question = Question(columns=("label",), partition=TREE)
    moved = moves(schema, lambda encoder, rows: encoder.count(question, rows).ravel())
    assert moved == mass


def test_a_row_in_two_leaves_would_break_the_bound(monkeypatch):
    """Broken twin: boxes that overlap."""
    question = Question(columns=("label",), partition=TREE)

    def twice(encoder, rows):
        counts = encoder.count(question, rows)
        return (counts + np.roll(counts, 1, axis=0)).ravel()

    assert moves(SCHEMA, twice) > 1


@pytest.mark.parametrize("shares", [[0.7, 0.6], [-0.1, 0.5]])
def test_shares_that_break_the_bound_are_refused(shares):
    with pytest.raises(GuaranteeVoid, match="shares"):
        moves(SCHEMA, lambda encoder, rows: ballot_scores(encoder, ballot(np.array(shares)), rows))


def test_scores_are_exact_sums_on_the_lattice():
    """No rounding of a float sum can tell a private order of rows."""
    frame = make_table(500)
    encoder = TableEncoder(SCHEMA, measure(frame, SCHEMA))
    rows = encoder.encode(frame)
    some = ballot(np.array([0.123456, 0.654321]))
    scores = ballot_scores(encoder, some, rows)
    assert np.array_equal(
        scores * 2 * joint_histograms._LATTICE, np.round(scores * 2 * joint_histograms._LATTICE)
    )
    assert np.array_equal(scores, ballot_scores(encoder, some, rows[::-1]))
