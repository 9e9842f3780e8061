"""Partitions: every row in exactly one leaf, by its own cells alone; kept as they are in a release."""

from __future__ import annotations

import json

import numpy as np
import pytest
from parity import SCHEMA, make_table
from worlds import measure

from dpsynth.data.bought.partition import Grid, Partition
from dpsynth.data.bought.statistics import Marginal, Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder

CODES = {"a": np.array([0, 1, 2, 3, 0, 3]), "b": np.array([0, 0, 1, 1, 1, 0])}
ROOT = Grid(columns=("a", "b"), groups=((0, 0, 1, 1), (0, 1)))
CUT = Grid(columns=("a",), groups=((0, 1, 0, 1),))
TREE = Partition().divided([ROOT]).divided([CUT, None, None, CUT])


def test_a_leaf_follows_from_the_boxes_on_the_way_to_it():
    assert Partition().leaves(CODES.__getitem__, 6).tolist() == [0] * 6
    assert Partition().divided([ROOT]).leaves(CODES.__getitem__, 6).tolist() == [0, 0, 3, 3, 1, 2]
    assert TREE.size == 6
    assert TREE.leaves(CODES.__getitem__, 6).tolist() == [0, 1, 4, 5, 2, 3]


def test_other_rows_do_not_move_a_row_to_another_leaf():
    whole = TREE.leaves(CODES.__getitem__, 6)
    for kept in ([5, 0, 2], [1], []):
        some = TREE.leaves(lambda name, kept=kept: CODES[name][kept], len(kept))
        assert some.tolist() == whole[kept].tolist()


def test_levels_must_divide_every_leaf():
    with pytest.raises(ValueError, match="a level of 4 grids"):
        Partition().divided([ROOT]).divided([CUT])


def test_a_bought_tree_survives_json():
    table = make_table(200)
    statistics = measure(table, SCHEMA)
    tree = Partition().divided([Grid(columns=("bit0", "size"), groups=((0, 1), (0,) * 5 + (1,) * 5))])
    question = Question(columns=("label",), partition=tree)
    encoder = TableEncoder(SCHEMA, statistics)
    counts = encoder.count(question, encoder.encode(table))
    assert counts.shape == (4, 2) and counts.sum() == len(table)
    large = (table["size"] >= 5).to_numpy()
    wanted = ((table["bit0"] == "y") & large & (table["label"] == "odd")).sum()
    assert counts[3, 1] == wanted
    bought = Marginal(columns=("label",), counts=counts.astype(float), noise_stddev=1.0, partition=tree)
    payload = json.loads(json.dumps(bought.to_dict()))
    again = Marginal.from_dict(payload)
    assert again.partition == tree and hash(again.partition) == hash(tree)
    whole = Statistics.from_dict(
        json.loads(json.dumps(statistics.to_dict() | {"marginals": [payload]})), SCHEMA
    )
    assert whole.shape(whole.marginals[0]) == (4, 2)


def test_a_tree_over_other_cells_does_not_fit():
    domain = measure(make_table(50), SCHEMA).domain
    halves = (0,) * 5 + (1,) * 5
    good = Partition().divided([Grid(columns=("bit0", "size"), groups=((0, 1), halves))])
    assert good.fits(domain)
    wrong = {
        "unknown column": Grid(columns=("other",), groups=((0, 1),)),
        "more cells": Grid(columns=("bit0",), groups=((0, 1, 1),)),
        "fewer cells": Grid(columns=("size",), groups=((0, 1),)),
        "a group below none": Grid(columns=("bit0",), groups=((-1, 0),)),
        "one column twice": Grid(columns=("bit0", "bit0"), groups=((0, 1), (0, 1))),
    }
    for why, grid in wrong.items():
        assert not Partition().divided([grid]).fits(domain), why
