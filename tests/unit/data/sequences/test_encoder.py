import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import CALENDAR, SCHEMA, exact, panel

from dpsynth.data.bought.grid import Cells, fine_domain
from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import BinCodec
from dpsynth.data.schema import (
    Categorical,
    Continuous,
    Datetime,
    Identifier,
    Integer,
    Schema,
    Sequence,
    Unit,
)
from dpsynth.data.schema.axis import from_axis
from dpsynth.data.sequences.encoder import SequenceEncoder, SequenceOptions
from dpsynth.data.sequences.layout import (
    MINUSONE_ONE,
    ZERO_ONE,
    code_of_bits,
    denormalize,
    normalize,
    num_bits,
    scale_examples,
    unscale_examples,
)
from dpsynth.data.sequences.times import SequenceTimes
from dpsynth.errors import InvalidInput

SCALED = [
    SequenceOptions(normalization=norm, apply_example_scaling=example)
    for norm in (ZERO_ONE, MINUSONE_ONE)
    for example in (True, False)
]


def encoder(schema=SCHEMA, table=None, options=None):
    table = panel(schema=schema) if table is None else table
    return SequenceEncoder(schema, exact(table, schema), options)


def rows(table):
    return table.drop(columns="who").reset_index(drop=True)


@pytest.mark.parametrize("options", SCALED, ids=str)
@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["modelled times", "calendar"])
def test_scaled_round_trip_is_exact(options, schema):
    table = panel(schema=schema)
    coder = encoder(schema, table, options)
    back = coder.decode(coder.encode(table), seed=0)
    pd.testing.assert_frame_equal(rows(back), rows(table), check_exact=True)
    assert back.who.nunique() == table.who.nunique()
    assert list(back.columns) == list(table.columns)


@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["modelled times", "calendar"])
def test_bins_bring_back_every_cell_length_missing_value_and_time(schema):
    table = panel(schema=schema)
    coder = encoder(schema, table, SequenceOptions(representation="bins"))
    units = coder.encode(table)
    back = coder.decode(units, seed=0)
    for name in ("year", "group", "union"):
        pd.testing.assert_series_equal(back[name], table[name])
    assert (back.hours.isna() == table.hours.isna()).all()
    assert np.array_equal(coder.encode(back), units)


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), min_size=1, max_size=6),
    st.sampled_from([ZERO_ONE, MINUSONE_ONE]),
)
@settings(max_examples=60, deadline=None)
def test_example_scales_invert_and_see_observed_steps_only(sequences, normalization):
    observed = np.arange(6) < np.array([len(s) for s in sequences])[:, None]
    values = np.full(observed.shape, 1e9)  # padding far outside would show in any scale
    values[observed] = np.concatenate(sequences)
    low, high = values[observed].min(), values[observed].max()
    unit = np.where(observed, normalize(values, low, max(high, low + 1e-3), ZERO_ONE), 1e9)
    scaled = scale_examples(unit, observed, normalization)
    bottom = 0.0 if normalization == ZERO_ONE else -1.0
    assert (scaled.values >= bottom).all() and (scaled.values <= 1.0).all()
    assert np.allclose(unscale_examples(scaled, normalization)[observed], unit[observed], atol=1e-12)


def test_published_inverse_formulas():
    assert denormalize(np.array([0.25]), 10.0, 30.0, ZERO_ONE)[0] == 0.25 * 20 + 10
    assert denormalize(np.array([0.5]), 10.0, 30.0, MINUSONE_ONE)[0] == (0.5 + 1) / 2 * 20 + 10


def test_constant_sequences_survive_example_scaling():
    table = panel()
    table["wage"] = 37.125
    coder = encoder(table=table, options=SequenceOptions())
    assert (coder.decode(coder.encode(table), seed=0).wage == 37.125).all()


def test_padding_and_missing_values_enter_no_scale():
    table = panel(1, seed=3)
    table["hours"] = [np.nan] + [60.0] * (len(table) - 1)
    coder = encoder(table=table, options=SequenceOptions())
    additional = coder.layout.split(coder.encode(table))[1]
    names = [s.column for s in coder.layout.additional]
    assert additional[0, names.index("hours@half_range")] == 0.0
    assert additional[0, names.index("hours@midpoint")] == pytest.approx(60 / 80)


def test_each_unit_is_encoded_alone():
    table = panel()
    for options in (SequenceOptions(), SequenceOptions(representation="bins")):
        coder = encoder(table=table, options=options)
        whole = coder.encode(table)
        for position, who in list(enumerate(table.who.unique()))[::7]:
            alone = coder.encode(table[table.who == who])
            assert np.array_equal(alone[0], whole[position])
            rest = coder.encode(table[table.who != who])
            assert np.array_equal(rest, np.delete(whole, position, axis=0))


def test_rows_are_ordered_by_time_not_by_file_or_text():
    table = panel()
    coder = encoder(table=table)
    shuffled = table.sample(frac=1, random_state=0)
    order = pd.factorize(shuffled.who)[1].map(dict(zip(table.who.unique(), range(40))))
    assert np.array_equal(coder.encode(shuffled), coder.encode(table)[order])


def test_attributes_that_change_are_named():
    table = panel()
    table.loc[1, "group"] = "c" if table.loc[0, "group"] != "c" else "a"
    table.loc[1, "who"] = table.loc[0, "who"]
    with pytest.raises(InvalidInput, match="group: is declared an attribute but changes"):
        encoder().encode(table)


def test_times_off_the_calendar_and_short_sequences_are_named():
    table = panel(schema=CALENDAR)
    table.loc[0, "year"] = 2000
    with pytest.raises(InvalidInput, match="year: has times that are not those of the declared calendar"):
        encoder(CALENDAR).encode(table)
    with pytest.raises(InvalidInput, match="fewer rows than min_length=4"):
        encoder(CALENDAR).encode(panel(schema=CALENDAR).iloc[:-1])


def test_rows_beyond_the_maximum_are_cut_in_order_of_time():
    short = replace(SCHEMA, sequence=replace(SCHEMA.sequence, max_length=2))
    table = panel()
    coder = encoder(short, table)
    back = coder.decode(coder.encode(table), seed=0)
    wanted = table.groupby("who", sort=False).head(2)
    pd.testing.assert_frame_equal(rows(back), rows(wanted))


def test_generated_times_rise_and_stay_in_bounds():
    coder = encoder(options=SequenceOptions(representation="bins"))
    rng = np.random.default_rng(0)
    layout, n = coder.layout, 300
    units = layout.join(
        np.stack([rng.integers(0, s.size, n) for s in layout.attributes], 1),
        np.zeros((n, 0)),
        rng.integers(1, 7, n),
        np.stack([rng.integers(0, s.size, (n, 6)) for s in layout.features], 2),
    )
    back = coder.decode(units, seed=0)
    assert back.year.between(2000, 2020).all()
    assert (back.groupby("who").year.diff().dropna() >= 1).all()


def test_binary_codes_above_the_cutoff_round_trip():
    values = tuple(f"v{i:03d}" for i in range(200))
    schema = Schema(
        columns=(Identifier(name="id"), Categorical(name="word", values=values, dtype="str")),
        unit=Unit(column="id", max_rows=3),
        sequence=Sequence(max_length=3),
    )
    table = pd.DataFrame({"id": np.repeat(np.arange(80), 3), "word": np.resize(values, 240)})
    table["word"] = table["word"].astype("str")
    coder = SequenceEncoder(schema, exact(table, schema), SequenceOptions(binary_encoder_cutoff=150))
    (segment,) = coder.layout.features
    assert (segment.kind, segment.size) == ("bits", num_bits(200)) == ("bits", 8)
    assert (coder.decode(coder.encode(table), seed=0).word == table.word).all()
    wide = SequenceEncoder(schema, exact(table, schema), SequenceOptions(binary_encoder_cutoff=200))
    assert wide.layout.features[0].kind == "onehot"


def test_every_bit_pattern_names_a_value():
    patterns = (np.arange(256)[:, None] >> np.arange(7, -1, -1)) & 1
    codes = code_of_bits(patterns, 200)
    assert np.array_equal(codes[:200], np.arange(200))
    assert codes.min() >= 0 and codes.max() < 200
    assert np.array_equal(code_of_bits(np.array([[0.51, 0.5, 0.49]]), 8), [4])


def test_unscaled_features_pass_through():
    schema = Schema(
        columns=(Identifier(name="id"), Continuous(name="x", min=-5.0, max=5.0)),
        unit=Unit(column="id", max_rows=2),
        sequence=Sequence(max_length=2, min_length=2),
    )
    table = pd.DataFrame({"id": [0, 0], "x": [0.25, 0.75]})
    options = SequenceOptions(apply_feature_scaling=False, apply_example_scaling=False)
    coder = SequenceEncoder(schema, exact(table, schema), options)
    assert np.array_equal(coder.encode(table), [[0.25, 0.75]])


def test_saved_encoders_are_equal():
    for options in (SequenceOptions(normalization=MINUSONE_ONE), SequenceOptions(representation="bins")):
        table = panel()
        coder = encoder(table=table, options=options)
        payload = json.loads(json.dumps(coder.to_dict()))
        again = SequenceEncoder.from_dict(payload, SCHEMA, coder.statistics)
        assert again.layout == coder.layout
        assert np.array_equal(again.encode(table), coder.encode(table))


def test_conditions_name_attributes_only():
    coder = encoder()
    with pytest.raises(InvalidInput, match="wage: is not an attribute"):
        coder.encode_attributes({"wage": 3.0}, 2)
    units = coder.encode(panel())
    back = coder.decode(units, seed=0, conditions={"born": 1977})
    assert (back.born == 1977).all()


def test_schemas_without_sequence_or_entity_are_refused():
    bare = replace(SCHEMA, sequence=None, unit=Unit())
    with pytest.raises(InvalidInput, match="is for sequences, but the schema declares rows"):
        SequenceEncoder(bare, exact(panel(), SCHEMA))


@pytest.mark.parametrize("exact", [True, False])
def test_short_gaps_in_a_long_span_stay_short(exact):
    """Of equal-width cells of two years, the first would hold all gaps and spread them over two months."""
    day = {"format": "%Y-%m-%d %H:%M", "min": "2023-01-01 00:00", "max": "2024-12-31 23:59"}
    time = Datetime(name="t", **day) if exact else Continuous(name="t", min=0, max=17_544)
    schema = Schema(
        columns=(Identifier(name="id"), time, Integer(name="x", min=0, max=9)),
        unit=Unit(column="id", max_rows=6),
        sequence=Sequence(time="t", max_length=6),
    )
    column, cells = SequenceTimes(schema, Statistics.made_up(schema), 12).columns["@gap"]
    hours = np.repeat([0.0, 24.0, 48.0], 200)
    gaps = from_axis(column, hours * 60 if exact else hours)
    assert (_hours_again(cells, gaps, exact) <= 72).mean() >= 0.9
    assert (_hours_again(cells, gaps, exact)[hours == 24] >= 12).all()
    equal = fine_domain(Schema(columns=(column,)), max_cells=12).cells[0]  # the twin
    assert (_hours_again(equal, gaps, exact) <= 72).mean() < 0.9


def _hours_again(cells: Cells, gaps: pd.Series, exact: bool) -> np.ndarray:
    codec = BinCodec(cells, np.zeros(cells.fine_size))
    drawn = codec.decode(cells.codes(gaps)[:, None], np.random.default_rng(0))
    return drawn.to_numpy(dtype=float) / (60 if exact else 1)
