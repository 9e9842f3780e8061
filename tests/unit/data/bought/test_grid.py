import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from worlds import SCHEMA, make_table, measure

from dpsynth.data.bought.grid import POINT_WIDTH, Cells, Domain, coarsen, fine_domain, project_to_simplex
from dpsynth.data.bought.statistics import Marginal
from dpsynth.data.schema import Categorical, Continuous, Datetime, Drop, Integer, Schema
from dpsynth.errors import InvalidInput


def cells_of(column, **options):
    return fine_domain(Schema(columns=(column,)), **options).cells[0]


def test_integers_get_one_cell_each_where_they_fit():
    cells = cells_of(Integer(name="x", min=-2, max=5))
    assert cells.codes(pd.Series([-2, 0, 5])).tolist() == [0, 2, 7]
    assert cells.size == 8


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(0, 10**7), st.sampled_from([8, 64, 512]))
def test_integer_cells_cover_the_range_and_hold_whole_numbers(low, span, max_cells):
    cells = cells_of(Integer(name="x", min=low, max=low + span), max_cells=max_cells)
    assert cells.size <= max_cells
    assert np.array_equal(np.round(cells.edges - 0.5), cells.edges - 0.5)
    assert cells.edges[0] == low - 0.5 and cells.edges[-1] == low + span + 0.5
    widths = np.diff(cells.edges)
    assert (widths >= 1).all() and widths.sum() == span + 1


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.sampled_from([16, 512]))
def test_continuous_cells_cover_the_range(low, span, max_cells):
    cells = cells_of(Continuous(name="x", min=low, max=low + span), max_cells=max_cells)
    assert cells.size <= max_cells
    assert cells.edges[0] == low and cells.edges[-1] == low + span
    assert (np.diff(cells.edges) > 0).all() or span < 1e-6


def test_bounds_and_zero_have_cells_of_their_own():
    cells = cells_of(Continuous(name="x", min=-5.0, max=1e5), max_cells=64)
    spikes = cells.codes(pd.Series([-5.0, 0.0, 1e5]))
    near = cells.codes(pd.Series([-5.0 + 1e-3, 1e-3, 1e5 - 1e-3]))
    assert not set(spikes) & set(near)
    assert np.diff(cells.edges)[spikes] == pytest.approx(POINT_WIDTH * (1e5 + 5))
    whole = cells_of(Integer(name="x", min=0, max=99_999), max_cells=64)
    assert np.diff(whole.edges)[whole.codes(pd.Series([0, 99_999]))].tolist() == [1, 1]


def test_cells_are_finer_towards_zero():
    widths = np.diff(cells_of(Integer(name="x", min=0, max=10**6), max_cells=256).edges)
    assert widths[1] < widths[100] / 100


def test_numbers_beyond_bought_bounds_go_to_the_outer_cells():
    cells = cells_of(Continuous(name="x", min=None, max=None), bounds={"x": (0.0, 10.0)})
    assert cells.codes(pd.Series([-3.0, 12.0])).tolist() == [0, cells.size - 1]


def test_decimals_survive_floating_point():
    cells = cells_of(Continuous(name="x", min=0.0, max=5.0, decimals=2), max_cells=501)
    values = pd.Series(np.arange(501) / 100)
    assert cells.codes(values + 1e-13).tolist() == cells.codes(values - 1e-13).tolist() == list(range(501))


def test_dates_are_numbers_of_their_resolution():
    days = cells_of(Datetime(name="d", format="%d.%m.%Y", min="01.01.2020", max="31.12.2020"))
    assert days.size == 366
    assert days.codes(pd.Series(["01.01.2020", "31.12.2020"])).tolist() == [0, 365]
    assert days.codes(pd.to_datetime(pd.Series(["2020-01-02"]))).tolist() == [1]
    hour = {"min": "2020-01-01 00:00", "max": "2020-01-01 01:00"}
    minutes = cells_of(Datetime(name="d", format="%Y-%m-%d %H:%M", **hour))
    assert minutes.size == 61


def test_missing_values_have_the_last_cell():
    cells = cells_of(Integer(name="x", min=0, max=3, nullable=True))
    assert cells.codes(pd.Series([3, None], dtype="Int64")).tolist() == [3, 4]
    text = cells_of(Categorical(name="x", values=("a", "b"), nullable=True))
    assert text.codes(pd.Series(["b", None])).tolist() == [1, 2]


def test_what_no_cell_is_for_is_refused_by_name_and_without_the_value():
    for column, values in (
        (Integer(name="x", min=0, max=3), [1.0, None]),
        (Categorical(name="x", values=("a",)), ["a", "secret"]),
    ):
        with pytest.raises(InvalidInput, match="x") as error:
            cells_of(column).codes(pd.Series(values))
        assert "secret" not in str(error.value)


def test_bought_values_leave_a_cell_for_others():
    cells = cells_of(Categorical(name="x", values=None, nullable=True), values={"x": ("a", "b")})
    assert cells.codes(pd.Series(["b", "unknown", None])).tolist() == [1, 2, 3]


def test_all_that_is_neither_declared_nor_bought_is_listed():
    columns = (Continuous(name="x", min=None, max=1.0), Categorical(name="y", values=None), Drop(name="z"))
    with pytest.raises(InvalidInput) as error:
        fine_domain(Schema(columns=columns))
    assert [problem.where for problem in error.value.problems] == ["x", "y"]


def test_booleans_and_numbers_find_their_values_in_any_dtype():
    flags = measure(make_table(50)).domain["member"]
    for dtype in (bool, object, "boolean"):
        assert flags.codes(pd.Series([True, False], dtype=dtype)).tolist() == [1, 0]
    grades = cells_of(Categorical(name="g", values=(1, 2, 3)))
    assert grades.codes(pd.Series([3.0, 1.0])).tolist() == [2, 0]


def coarse(column, counts, max_cells=32, noise_stddev=0.0, **options):
    domain = fine_domain(Schema(columns=(column,)))
    marginal = Marginal(columns=("x",), counts=np.array(counts, dtype=float), noise_stddev=noise_stddev)
    return coarsen(domain, {"x": marginal}, max_cells, **options).cells[0]


def test_spikes_stay_alone_and_the_rest_is_cut_evenly():
    counts = np.full(100, 10.0)
    counts[40] = 5000.0
    cells = coarse(Integer(name="x", min=0, max=99), counts, max_cells=10)
    assert cells.size == 10
    assert (cells.groups == cells.groups[40]).sum() == 1
    assert (np.diff(cells.groups) >= 0).all()
    masses = np.bincount(cells.groups, weights=counts)
    others = np.delete(masses, cells.groups[40])
    assert others.max() <= 3 * others.min()


def test_no_group_is_lighter_than_the_noise_allows():
    counts = np.random.default_rng(0).poisson(40, 64).astype(float)
    cells = coarse(Integer(name="x", min=0, max=63), counts, max_cells=64, noise_stddev=30.0, min_noise=5.0)
    assert np.bincount(cells.groups, weights=counts).min() >= 0.9 * 150
    assert cells.size > 8


def test_rare_categories_merge_only_with_each_other():
    counts = [900.0, 3.0, 500.0, 1.0, 2.0]
    cells = coarse(Categorical(name="x", values=tuple("abcde")), counts, noise_stddev=4.0)
    assert cells.groups.tolist() == [0, 2, 1, 2, 2]
    one = coarse(Categorical(name="x", values=tuple("abc")), [900.0, 3.0, 500.0], noise_stddev=4.0)
    assert one.groups.tolist() == [0, 1, 2]
    few = coarse(Categorical(name="x", values=tuple("abcde")), [5.0, 4.0, 3.0, 2.0, 1.0], max_cells=3)
    assert few.groups.tolist() == [0, 1, 2, 2, 2]


def test_missing_is_never_merged():
    counts = [900.0, 1.0, 1.0, 1.0]
    cells = coarse(Categorical(name="x", values=tuple("abc"), nullable=True), counts, noise_stddev=10.0)
    assert cells.groups.tolist() == [0, 1, 1, 2]


def test_coarse_codes_are_groups_of_fine_codes():
    table = make_table(200)
    statistics = measure(table, noise_stddev=2.0)
    for cells in statistics.domain.cells:
        series = table[cells.column.name]
        assert np.array_equal(cells.codes(series), cells.group_map[cells.fine.codes(series)])
        assert cells.codes(series).max() < cells.size


def test_domains_survive_json():
    domain = measure(make_table(100), noise_stddev=2.0).domain
    again = Domain.from_dict(json.loads(json.dumps(domain.to_dict())), SCHEMA)
    table = make_table(50, seed=3)
    assert again.names == domain.names and again.sizes == domain.sizes
    assert np.array_equal(again.codes(table), domain.codes(table))


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6)), st.floats(0.1, 1e5))
def test_projection_is_on_the_simplex(counts, total):
    projected = project_to_simplex(counts, total)
    assert (projected >= 0).all()
    assert projected.sum() == pytest.approx(total, rel=1e-6, abs=1e-6)


def test_projection_is_the_nearest_point():
    counts = np.random.default_rng(0).normal(0.2, 0.4, 6)
    solved = minimize(
        lambda x: ((x - counts) ** 2).sum(),
        np.full(6, 1 / 6),
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert project_to_simplex(counts) == pytest.approx(solved.x, abs=1e-5)


def test_cells_without_a_bought_value_still_have_other():
    cells = Cells(column=Categorical(name="x", values=None), values=(), other=True)
    assert cells.size == 1 and cells.codes(pd.Series(["a"])).tolist() == [0]
