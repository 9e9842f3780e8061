from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Categorical, Continuous, Integer, Schema
from dpsynth.evaluation import fidelity
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.types import EvaluationConfig

CONFIG = EvaluationConfig()


def by_name(metrics):
    return {m.name: m for m in metrics}


def crosstab_distance(synthetic, real, columns):
    """Oracle: pandas counts whole rows of labels."""
    first = synthetic.value_counts(subset=columns, normalize=True, dropna=False)
    second = real.value_counts(subset=columns, normalize=True, dropna=False)
    return 0.5 * first.sub(second, fill_value=0.0).abs().sum()


def test_one_two_and_three_way_distances_equal_a_count_of_labels(make_mixed, mixed_schema):
    synthetic, real = make_mixed(300, seed=1), make_mixed(400, seed=2)
    binning = make_binning(mixed_schema, real)
    labels = [pd.DataFrame(dict(zip(binning.names, binning.codes(table)))) for table in (synthetic, real)]
    found = by_name(fidelity.fidelity(synthetic, real, binning, mixed_schema, CONFIG, 0))
    names = list(binning.names)
    ones = [crosstab_distance(*labels, [n]) for n in names]
    twos = [crosstab_distance(*labels, [a, b]) for i, a in enumerate(names) for b in names[i + 1 :]]
    rest = [n for n in names if n != "buys"]
    threes = [crosstab_distance(*labels, ["buys", a, b]) for i, a in enumerate(rest) for b in rest[i + 1 :]]
    for key, expected in (("tv_1way", ones), ("tv_2way", twos), ("tv_3way_target", threes)):
        assert found[key].value == pytest.approx(np.mean(expected), abs=1e-12)
        assert found[f"{key}_max"].value == pytest.approx(np.max(expected), abs=1e-12)
        assert "train" in found[key].computed_on and found[key].visibility == "internal"


def test_twenty_equal_width_bins_over_declared_bounds():
    schema = Schema(columns=(Continuous(name="x", min=0.0, max=10.0, nullable=True),))
    bins = make_binning(schema, pd.DataFrame({"x": [1.0]}))["x"]
    codes = bins.codes(pd.Series([0.0, 0.49, 0.5, 9.99, 10.0, -3.0, 12.0, np.nan]))
    assert codes.tolist() == [0, 0, 1, 19, 19, 0, 19, 20]
    assert bins.size == 21 and len(bins.labels()) == 21


def test_values_that_are_not_declared_and_missing_ones_have_cells_of_their_own():
    schema = Schema(columns=(Categorical(name="c", values=(1, 2), nullable=True),))
    bins = make_binning(schema, pd.DataFrame({"c": [1]}))["c"]
    assert bins.codes(pd.Series([1, 2.0, 7, None], dtype=object)).tolist() == [0, 1, 2, 3]
    real = pd.DataFrame({"c": [1, 2, 1, 2]})
    synthetic = pd.DataFrame({"c": [1.0, 2.0, np.nan, np.nan]})
    found = by_name(fidelity.fidelity(synthetic, real, make_binning(schema, real), schema, CONFIG, 0))
    assert found["tv_1way"].value == pytest.approx(0.5)


def test_limits_zero_for_a_copy_and_one_for_disjoint_tables(make_mixed, mixed_schema):
    real = make_mixed(100)
    binning = make_binning(mixed_schema, real)
    copied = fidelity.fidelity(real.sample(frac=1, random_state=1), real, binning, mixed_schema, CONFIG, 0)
    assert all(m.value == 0.0 for m in copied)
    schema = Schema(columns=(Integer(name="a", min=0, max=9), Integer(name="b", min=0, max=9)))
    low, high = pd.DataFrame({"a": [0, 1], "b": [0, 1]}), pd.DataFrame({"a": [8, 9], "b": [8, 9]})
    apart = fidelity.fidelity(low, high, make_binning(schema, high), schema, CONFIG, 0)
    assert all(m.value == 1.0 for m in apart)


def test_many_cells_are_renumbered_without_changing_the_distance():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 50, (2, 200))
    dense = fidelity.total_variation(first, second, 50)
    assert fidelity.total_variation(first * 10**7, second * 10**7, 50 * 10**7) == pytest.approx(dense)


def test_broken_twin_a_dependence_that_margins_hide_shows_in_pairs_alone():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 10, 5000)
    real = pd.DataFrame({"a": x, "b": x})
    shuffled = pd.DataFrame({"a": x, "b": rng.permutation(x)})
    schema = Schema(columns=(Integer(name="a", min=0, max=9), Integer(name="b", min=0, max=9)))
    found = by_name(fidelity.fidelity(shuffled, real, make_binning(schema, real), schema, CONFIG, 0))
    assert found["tv_1way"].value == 0.0
    assert found["tv_2way"].value > 0.8


def test_pairs_beyond_the_limit_are_drawn_by_the_seed_and_said(make_mixed, mixed_schema):
    real = make_mixed(50)
    binning = make_binning(mixed_schema, real)
    assert fidelity.pairs(binning, 5, 3) == fidelity.pairs(binning, 5, 3)
    assert len(set(fidelity.pairs(binning, 5, 3))) == 5
    few = EvaluationConfig(max_pairs=5)
    found = by_name(fidelity.fidelity(make_mixed(50, 1), real, binning, mixed_schema, few, 0))
    assert found["tv_2way"].computed_on.startswith("mean over 5 of 21 pairs")


def test_one_column_has_no_pairs():
    schema = Schema(columns=(Integer(name="a", min=0, max=9),))
    table = pd.DataFrame({"a": [1, 2]})
    found = by_name(fidelity.fidelity(table, table, make_binning(schema, table), schema, CONFIG, 0))
    assert set(found) == {"tv_1way", "tv_1way_max"}


def test_matrices_agree_with_the_means(make_mixed, mixed_schema):
    synthetic, real = make_mixed(200, 1), make_mixed(200, 2)
    binning = make_binning(mixed_schema, real)
    found = by_name(fidelity.fidelity(synthetic, real, binning, mixed_schema, CONFIG, 0))
    matrix = fidelity.pair_distances(synthetic, real, binning)
    upper = matrix.to_numpy()[np.triu_indices(len(matrix), 1)]
    assert upper.mean() == pytest.approx(found["tv_2way"].value)
    assert fidelity.column_distances(synthetic, real, binning).mean() == pytest.approx(found["tv_1way"].value)
    assert (matrix == matrix.T).all().all()


def test_undeclared_bounds_and_values_come_from_the_training_rows():
    schema = Schema(columns=(Continuous(name="x"), Categorical(name="c")))
    train = pd.DataFrame({"x": [2.0, 4.0], "c": ["b", "a"]})
    binning = make_binning(schema, train)
    assert binning["x"].bounds == (2.0, 4.0) and binning["c"].values == ("a", "b")
    given = make_binning(schema, train, bounds={"x": (0.0, 8.0)}, values={"c": ("a", "b", "z")})
    assert given["x"].bounds == (0.0, 8.0) and given["c"].values == ("a", "b", "z")
