"""Which histograms are asked for, over which axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from joints import SCHEMA, buy, exact, make_table

from dpsynth.data.bought.questions import crossing, max_groups, num_refined, pair_questions, refined_questions
from dpsynth.data.bought.statistics import Question, Statistics
from dpsynth.data.schema import Categorical

TABLE = make_table(2_000)


def test_pairs_are_asked_within_the_strata_of_a_short_target():
    asked = [question.columns for question in pair_questions(SCHEMA)]
    assert len(asked) == 6 and ("\0~age", "\0~town", "\0@buys") in asked
    assert crossing(SCHEMA) == "buys"


def test_a_numeric_target_has_strata_and_is_paired_too():
    schema = replace(SCHEMA, target="age")
    asked = [question.columns for question in pair_questions(schema)]
    assert ("\0~town", "\0~pet", "\0@age") in asked and ("town", "age") in asked and len(asked) == 10
    assert crossing(schema) is None


def test_a_long_list_as_target_and_no_target_ask_for_plain_pairs():
    long = Categorical(name="buys", values=tuple(range(40)))
    for schema in (replace(SCHEMA, target=None), replace(SCHEMA, columns=(*SCHEMA.columns[:-1], long))):
        assert all(len(question.columns) == 2 for question in pair_questions(schema))
        assert len(pair_questions(schema)) == 10


def test_few_columns_ask_for_little():
    one = replace(SCHEMA, columns=SCHEMA.columns[:1], target=None)
    two = replace(SCHEMA, columns=SCHEMA.columns[1:3], target="pet")
    assert pair_questions(one) == () and num_refined(one) == 0
    assert [question.columns for question in pair_questions(two)] == [("\0~town", "\0~pet")]


def test_the_pair_that_hangs_together_is_refined_first():
    first = refined_questions(buy(TABLE, noise_stddev=10.0), 1)
    assert first == (Question(columns=("age", "town", "\0@buys")),)


def test_axes_partition_cells_and_histograms_count_every_row_once():
    statistics = buy(TABLE, noise_stddev=0.0, max_groups=5)
    for name in ("age", "\0~age", "\0~town", "\0@buys", "\0@age"):
        column, codes = statistics.axis(name)
        assert len(codes) == statistics.domain[column].size
        assert set(codes) == set(range(codes.max() + 1))
    assert statistics.axis("\0~age")[1].max() + 1 == 5
    fine = exact(statistics, TABLE, Question(columns=("age", "town")))
    coarse = exact(statistics, TABLE, Question(columns=("\0~age", "town")))
    summed = np.zeros_like(coarse)
    np.add.at(summed, statistics.axis("\0~age")[1], fine)
    assert np.array_equal(summed, coarse) and fine.sum() == len(TABLE)


def test_axes_survive_being_saved():
    statistics = buy(TABLE, noise_stddev=10.0, max_groups=5)
    again = Statistics.from_dict(statistics.to_dict(), SCHEMA)
    for name in ("\0~age", "\0~town", "\0@buys"):
        assert np.array_equal(again.axis(name)[1], statistics.axis(name)[1])


def test_noisier_histograms_get_fewer_groups():
    assert max_groups(1e5, 0.0, 2) == 32
    assert max_groups(1e5, 10.0, 2) > max_groups(1e5, 100.0, 2) >= 5
