from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from dpsynth.data.schema import Categorical, Continuous, Integer, Schema
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.divergence import coverage, divergences, jensen_shannon, kullback_leibler
from dpsynth.evaluation.types import EvaluationConfig


def by_name(metrics):
    return {m.name: m.value for m in metrics}


def test_jensen_shannon_equals_scipy_and_its_limits():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 20, (2, 9)).astype(float)
    assert jensen_shannon(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2)
    assert jensen_shannon(first, first) == 0.0
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 5.0])) == pytest.approx(1.0)


def test_kullback_leibler_is_from_real_to_synthetic_and_stays_finite():
    real, synthetic = np.array([7.0, 2.0, 1.0]), np.array([5.0, 5.0, 0.0])
    assert kullback_leibler(real, synthetic) == pytest.approx(entropy(real + 0.5, synthetic + 0.5, base=2))
    assert np.isfinite(kullback_leibler(real, synthetic))
    assert kullback_leibler(real, synthetic) != pytest.approx(kullback_leibler(synthetic, real))


def test_means_over_columns_and_pairs_equal_a_count_of_labels():
    rng = np.random.default_rng(1)
    schema = Schema(columns=tuple(Integer(name=n, min=0, max=4) for n in "ab"))
    real, synthetic = (pd.DataFrame(rng.integers(0, high, (60, 2)), columns=list("ab")) for high in (5, 3))
    binning = make_binning(schema, real)
    found = by_name(
        divergences(binning.codes(synthetic), binning.codes(real), binning, EvaluationConfig(), 0)
    )

    def shares(columns):
        tables = [t.value_counts(subset=columns) for t in (synthetic, real)]
        return pd.concat(tables, axis=1).fillna(0.0).to_numpy().T

    one = np.mean([jensenshannon(*shares([n]), base=2) ** 2 for n in "ab"])
    assert found["js_1way"] == pytest.approx(one)
    assert found["js_2way"] == pytest.approx(jensenshannon(*shares(["a", "b"]), base=2) ** 2)


def test_lost_and_thinned_categories_show():
    schema = Schema(
        columns=(Categorical(name="c", values=tuple("abcde")), Continuous(name="x", min=0, max=1))
    )
    real = pd.DataFrame({"c": ["a"] * 92 + ["b"] * 4 + ["c"] * 4, "x": 0.5})
    synthetic = pd.DataFrame({"c": ["a"] * 98 + ["b"] * 2, "x": 0.5})
    binning = make_binning(schema, real)
    found = by_name(coverage(binning.codes(synthetic), binning.codes(real), binning))
    assert found["category_coverage"] == pytest.approx(2 / 3)  # d and e never occurred
    assert found["rare_category_recall"] == pytest.approx((0.5 + 0.0) / 2)
    same = by_name(coverage(binning.codes(real), binning.codes(real), binning))
    assert same == {"category_coverage": 1.0, "rare_category_recall": 1.0}


def test_a_table_of_numbers_has_no_category_coverage():
    schema = Schema(columns=(Continuous(name="x", min=0, max=1),))
    table = pd.DataFrame({"x": [0.1, 0.2]})
    binning = make_binning(schema, table)
    assert coverage(binning.codes(table), binning.codes(table), binning) == []
