from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Integer, Schema
from dpsynth.evaluation.describe import describe, describe_figure


def test_statistics_equal_those_of_pandas(make_mixed, mixed_schema):
    real, synthetic = make_mixed(200, 1), make_mixed(300, 2)
    table = describe({"real": real, "synthetic": synthetic}, mixed_schema)
    assert list(table.index.get_level_values("column").unique()) == [c.name for c in mixed_schema.modelled]
    for name, frame in (("real", real), ("synthetic", synthetic)):
        expected = frame["income"].describe(percentiles=[0.05, 0.25, 0.5, 0.75, 0.95])
        found = table.loc[("income", name)]
        for key in ("count", "mean", "std", "min", "5%", "25%", "50%", "75%", "95%", "max"):
            assert found[key] == pytest.approx(expected[key])
        assert found["missing"] == frame["income"].isna().sum()
        city = table.loc[("city", name)]
        assert (city["top"], city["unique"]) == (frame["city"].mode()[0], frame["city"].nunique())
        assert city["top_share"] == pytest.approx(frame["city"].value_counts(normalize=True).iloc[0])
        assert pd.isna(city["mean"])


def test_dates_are_described_as_dates():
    schema = Schema(columns=(Datetime(name="d", format="%d.%m.%Y", min="01.01.2020", max="31.12.2020"),))
    row = describe({"t": pd.DataFrame({"d": ["01.02.2020", "03.02.2020"]})}, schema).loc[("d", "t")]
    assert (row["min"], row["mean"], row["max"]) == ("01.02.2020", "02.02.2020", "03.02.2020")
    assert row["std"] == pytest.approx(np.sqrt(2))
    parsed = pd.DataFrame({"d": pd.to_datetime(["2020-02-01", "2020-02-03"])})
    assert describe({"t": parsed}, schema).loc[("d", "t")]["mean"] == "02.02.2020"


@pytest.mark.parametrize("num_rows", [0, 3])
def test_empty_and_all_missing_columns_have_counts_and_a_figure(mixed_schema, make_mixed, num_rows):
    table = make_mixed(3).head(num_rows)
    table["income"], table["city"] = np.nan, None
    row = describe({"t": table}, mixed_schema).loc[("income", "t")]
    assert (row["count"], row["missing"], row["unique"]) == (0, num_rows, 0)
    assert pd.isna(row["mean"]) and pd.isna(row["top"])
    for column in mixed_schema.modelled:
        assert describe_figure({"real": table, "synthetic": table}, mixed_schema, column.name).axes


def test_a_column_that_one_table_lacks_is_left_out_of_it():
    schema = Schema(columns=(Integer(name="a", min=0, max=3), Boolean(name="b")))
    tables = {"x": pd.DataFrame({"a": [1], "b": [True]}), "y": pd.DataFrame({"a": [2]})}
    assert list(describe(tables, schema).index) == [("a", "x"), ("a", "y"), ("b", "x")]


def test_histogram_and_missing_share_add_up_to_all_rows():
    schema = Schema(columns=(Continuous(name="x", min=0.0, max=1.0, nullable=True),))
    values = np.random.default_rng(0).random(400)
    values[:100] = np.nan
    figure = describe_figure({"real": pd.DataFrame({"x": values})}, schema, "x")
    heights = figure.axes[0].patches[0].get_data().values
    assert heights.sum() == pytest.approx(75.0)
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["missing: real 25.0 %"]


def test_whole_numbers_fill_bins_of_equal_whole_width():
    schema = Schema(columns=(Integer(name="x", min=0, max=99),))
    figure = describe_figure({"real": pd.DataFrame({"x": np.arange(100)})}, schema, "x", num_bins=30)
    heights = figure.axes[0].patches[0].get_data().values
    assert np.ptp(heights[:-1]) < 1e-9  # no comb: each bin but the last holds as many whole numbers


def test_bars_pool_rare_categories_and_keep_declared_order_where_it_means_something():
    values = tuple(range(30))
    table = pd.DataFrame({"c": np.repeat(np.arange(30), np.arange(1, 31))})
    plain = Schema(columns=(Categorical(name="c", values=values),))
    axes = describe_figure({"real": table}, plain, "c", most_values=10).axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == [*(str(v) for v in range(29, 19, -1)), "(20 more)"]
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(100.0)
    ordered = Schema(columns=(Categorical(name="c", values=values, ordered=True),))
    axes = describe_figure({"real": table}, ordered, "c", most_values=10).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()][:3] == ["20", "21", "22"]


def test_values_that_are_not_declared_are_drawn_apart():
    schema = Schema(columns=(Categorical(name="c", values=("a", "b"), nullable=True),))
    table = pd.DataFrame({"c": ["a", "z", None, "b"]})
    axes = describe_figure({"real": table}, schema, "c").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "(not declared)", "(missing)"]


def test_figures_leave_no_global_state(make_mixed, mixed_schema):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    describe_figure({"real": make_mixed(30)}, mixed_schema, "age")
    assert plt.get_fignums() == before
