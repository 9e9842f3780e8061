import json
import time

import numpy as np
import pandas as pd
import pytest
from worlds import SCHEMA, make_table, measure

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import OTHER, TableEncoder, pack_units
from dpsynth.data.rows.modes import fit_modes
from dpsynth.data.schema import Categorical, Continuous, Integer, Schema
from dpsynth.data.tables.io import read_table
from dpsynth.errors import InvalidInput

REPRESENTATIONS = ["bins", "modes"]


def encoder(representation="bins", table=None, **options) -> TableEncoder:
    return TableEncoder(
        SCHEMA, measure(make_table(400) if table is None else table, **options), representation
    )


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_columns_dtypes_and_missing_values_come_back(representation):
    table = make_table(400)
    made = encoder(representation)
    back = made.decode(made.encode(table), seed=0)
    assert list(back.columns) == list(table.columns)
    assert back.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    assert (back.isna() == table.isna()).all().all()


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_columns_that_are_not_grouped_come_back_exactly(representation):
    table, made = make_table(400), encoder(representation, fine_cells=1000, max_cells=1000)
    back = made.decode(made.encode(table), seed=0)
    exact = ["town", "member", "grade", *(["age", "joined"] if representation == "bins" else [])]
    pd.testing.assert_frame_equal(back[exact], table[exact])


def test_values_stay_in_their_group():
    table, made = make_table(400), encoder(noise_stddev=3.0)
    packed = made.encode(table)
    assert np.array_equal(made.encode(made.decode(packed, seed=1)), packed)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_bounds_and_decimals_hold(representation):
    table, made = make_table(400), encoder(representation, noise_stddev=3.0)
    packed = made.encode(table)
    if representation == "modes":
        packed[:, 0] = np.linspace(-1, 1, len(packed))
    back = made.decode(packed, seed=0)
    assert back["age"].between(18, 90).all()
    income = back["income"].dropna()
    assert income.between(0, 9000).all() and np.array_equal(income.round(2), income)
    days = pd.to_datetime(back["joined"], format="%Y-%m-%d")
    assert days.between("2020-01-01", "2021-12-31").all()


def test_inside_a_group_values_follow_the_fine_histogram():
    random = np.random.default_rng(0)
    values = np.concatenate([np.zeros(3000), random.integers(40, 60, 3000), np.full(3000, 99)])
    schema = Schema(columns=(Integer(name="x", min=0, max=99),))
    table = pd.DataFrame({"x": values.astype(np.int64)})
    made = TableEncoder(schema, measure(table, schema, max_cells=2), "bins")
    assert made.layout.width == 2
    back = made.decode(made.encode(table), seed=0)["x"]
    share = np.bincount(back, minlength=100) / len(back)
    truth = np.bincount(table["x"], minlength=100) / len(table)
    # 9000 draws over 22 values: a total variation of 0.05 is beyond ten standard deviations
    assert 0.5 * np.abs(share - truth).sum() < 0.05


def test_spikes_of_continuous_columns_are_hit_exactly():
    random = np.random.default_rng(0)
    values = np.where(random.random(2000) < 0.5, 0.0, random.uniform(0, 1e6, 2000))
    schema = Schema(columns=(Continuous(name="x", min=0.0, max=1e6),))
    table = pd.DataFrame({"x": values})
    made = TableEncoder(schema, measure(table, schema, max_cells=8), "bins")
    back = made.decode(made.encode(table), seed=0)["x"]
    assert ((back == 0.0) == (table["x"] == 0.0)).mean() > 0.999


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_a_row_is_encoded_by_itself(representation):
    table, made = make_table(50), encoder(representation)
    whole = made.encode(table)
    alone = np.concatenate([made.encode(table.iloc[[i]]) for i in range(50)])
    assert np.array_equal(whole, alone)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_encoders_survive_json(representation):
    made, table = encoder(representation, noise_stddev=3.0), make_table(50, seed=4)
    stored = json.loads(json.dumps([made.to_dict(), made.statistics.to_dict()]))
    again = TableEncoder.from_dict(stored[0], SCHEMA, Statistics.from_dict(stored[1], SCHEMA))
    assert again.layout == made.layout
    packed = made.encode(table)
    assert np.array_equal(again.encode(table), packed)
    pd.testing.assert_frame_equal(again.decode(packed, seed=2), made.decode(packed, seed=2))


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_frequencies_sum_to_one_over_each_onehot(representation):
    made = encoder(representation, noise_stddev=3.0)
    for segment in made.layout.segments:
        if segment.kind == "onehot":
            shares = made.frequencies(segment.column)
            assert len(shares) == segment.size and shares.sum() == pytest.approx(1.0)


def test_values_outside_a_bought_list_come_back_as_other():
    schema = Schema(columns=(Categorical(name="x", values=None),))
    table = pd.DataFrame({"x": ["a"] * 50 + ["rare"] * 50})
    made = TableEncoder(schema, measure(table, schema, values={"x": ("a",)}), "bins")
    assert made.decode(made.encode(table), seed=0)["x"].tolist() == ["a"] * 50 + [OTHER] * 50


def test_layout_places_tile_the_expanded_row():
    layout = encoder("modes").layout
    ends = np.cumsum([segment.size for segment in layout.segments])
    assert [segment.start for segment in layout.segments] == [0, *ends[:-1]]
    assert layout.width == ends[-1] and layout.packed_width == len(layout.segments)


def test_modes_find_a_mixture_and_its_weights():
    random = np.random.default_rng(0)
    draws = np.concatenate(
        [random.normal(-5, 0.5, 6000), random.normal(0, 1, 3000), random.normal(8, 0.2, 1000)]
    )
    counts, edges = np.histogram(draws, bins=800, range=(-10, 10))
    modes = fit_modes((edges[1:] + edges[:-1]) / 2, counts.astype(float))
    for mean, stddev, weight in ((-5, 0.5, 0.6), (0, 1, 0.3), (8, 0.2, 0.1)):
        near = np.abs(modes.means - mean) < 3 * stddev
        assert modes.weights[near].sum() == pytest.approx(weight, abs=0.02)
        mixed = np.average(modes.means[near], weights=modes.weights[near])
        assert mixed == pytest.approx(mean, abs=0.1 * stddev + 0.02)


def test_modes_of_a_constant_or_empty_column_are_one():
    for mass in (np.array([0.0, 5.0, 0.0]), np.zeros(3)):
        modes = fit_modes(np.array([1.0, 2.0, 3.0]), mass)
        assert len(modes.means) == 1 and np.isfinite(modes.stddevs).all() and modes.stddevs[0] > 0


def test_units_gather_their_rows_in_order():
    packed = np.arange(12, dtype=np.float32).reshape(6, 2)
    units = pack_units(packed, np.array([0, 1, 0, 2, 1, 0]), max_rows=2)
    assert units.shape == (3, 2, 2)
    assert np.array_equal(units[0], packed[[0, 2]])
    assert np.array_equal(units[1], packed[[1, 4]])
    lonely = pack_units(packed, np.arange(6), max_rows=3)
    assert np.isnan(lonely[:, 1:]).all() and np.array_equal(lonely[:, 0], packed)


def test_a_hundred_thousand_rows_are_encoded_in_a_second():
    table = pd.concat([make_table(10_000)] * 10, ignore_index=True)
    made = encoder(table=make_table(10_000))
    began = time.process_time()
    made.encode(table)
    assert time.process_time() - began < 1.0


def _with_rare(column: Categorical, values: list, bought: tuple) -> pd.Series:
    """Half of the rows have values that were bought, half have another."""
    table = pd.DataFrame({"x": values})
    made = TableEncoder(
        Schema(columns=(column,)), measure(table, Schema(columns=(column,)), values={"x": bought})
    )
    return made.decode(made.encode(table), seed=0)["x"]


CODES = [113] * 30 + [250] * 20 + [9] * 50


@pytest.mark.parametrize("dtype", ["int64", "float64", "category"])
def test_numbers_that_were_not_bought_come_back_missing_and_as_no_real_one(dtype):
    found = _with_rare(Categorical(name="x", dtype=dtype), CODES, (113, 250))
    assert found.value_counts().to_dict() == {113: 30, 250: 20}
    assert found.isna().sum() == 50
    assert str(found.dtype) == {"int64": "Int64"}.get(dtype, dtype)


@pytest.mark.parametrize("bought", [(), (113, 250)])
def test_a_declared_stand_in_takes_the_place_of_what_was_not_bought(bought):
    found = _with_rare(Categorical(name="x", dtype="int64", other=-1), CODES, bought)
    assert (found == -1).sum() == (50 if bought else 100)
    assert _with_rare(Categorical(name="x", other="rest"), ["a", "b"], ("a",)).tolist() == ["a", "rest"]
    assert _with_rare(Categorical(name="x", unlisted="missing"), ["a", "b"], ("a",)).isna().tolist() == [
        False,
        True,
    ]


def test_the_stand_in_for_text_is_never_a_bought_value():
    assert _with_rare(Categorical(name="x"), ["(other)", "b"], ("(other)",)).tolist() == [
        "(other)",
        "(other)*",
    ]


def test_what_was_not_bought_can_be_spread_over_what_was():
    found = _with_rare(Categorical(name="x", dtype="int64", unlisted="spread"), CODES * 100, (113, 250))
    assert found.isna().sum() == 0
    assert (found == 113).mean() == pytest.approx(0.6, abs=0.03)
    assert _with_rare(Categorical(name="x", dtype="int64", unlisted="spread"), [1, 2], ()).isna().all()


def test_rules_about_unlisted_values_are_checked():
    for wrong in (
        {"unlisted": "sprad"},
        {"unlisted": "spread", "values": ("a",)},
        {"other": "z", "values": ("a",)},
    ):
        with pytest.raises(InvalidInput):
            Schema(columns=(Categorical(name="x", **wrong),))
    with pytest.raises(InvalidInput, match="other='rest' is not of type int"):
        read_table(pd.DataFrame({"x": [1, 2]}), Schema(columns=(Categorical(name="x", other="rest"),)))
