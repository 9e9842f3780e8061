import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from dpsynth.data.sequences.arrays import from_frame, to_wide
from dpsynth.errors import DpsynthError, InvalidInput
from dpsynth.timeseries import DGAN, Config, windows

QUICK = Config(epochs=1, batch_size=16, attribute_num_units=8, feature_num_units=8)


def arrays(num=24, steps=6):
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(num, steps)).cumsum(1)
    counts = rng.integers(0, 4, (num, steps))
    features = np.stack([walk, counts], axis=2)
    attributes = np.stack([rng.choice(["x", "y"], num), rng.integers(1, 9, num)], axis=1).astype(object)
    attributes[:, 1] = attributes[:, 1].astype(int)
    return features, attributes


def long_table(num=24, steps=5, times=None):
    rng = np.random.default_rng(1)
    times = pd.date_range("2021-03-01", periods=steps).strftime("%d.%m.%Y") if times is None else times
    return pd.DataFrame(
        {
            "person": np.repeat([f"p{i}" for i in range(num)], steps),
            "day": np.tile(times, num),
            "visits": rng.integers(0, 30, num * steps),
            "level": np.repeat(rng.choice(["low", "high"], num), steps),
        }
    )


def test_numpy_in_numpy_out_with_types():
    features, attributes = arrays()
    model = DGAN(QUICK).train_numpy(features, ["continuous", "discrete"], attributes)
    heads, made = model.generate_numpy(7)
    assert heads.shape == (7, 2) and made.shape == (7, 6, 2)
    assert set(heads[:, 0]) <= {"x", "y"} and all(isinstance(v, int) for v in heads[:, 1])
    assert set(np.unique(made[:, :, 1])) <= {0.0, 1.0, 2.0, 3.0}


def test_integers_come_back_as_integers():
    features = np.random.default_rng(0).integers(-5, 90, (24, 6, 1))
    _, made = DGAN(QUICK).train_numpy(features).generate_numpy(3)
    assert made.dtype.kind == "i" and made.min() >= -5 and made.max() < 90


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "datetime64[ns]"])
def test_arrays_come_back_in_their_dtype(dtype):
    features = np.random.default_rng(0).integers(0, 2, (24, 3, 1)).astype(dtype)
    _, made = DGAN(QUICK).train_numpy(features).generate_numpy(3)
    assert made.dtype == dtype
    if dtype == "float32":
        features[::3, :, 0] = np.nan
        assert DGAN(QUICK).train_numpy(features).generate_numpy(3)[1].dtype == dtype


def test_ragged_in_ragged_out():
    features, _ = arrays(40)
    ragged = [part[: 1 + i % 6] for i, part in enumerate(features)]
    heads, made = DGAN(QUICK).train_numpy(ragged).generate_numpy(50)
    assert heads is None
    parts = list(made)
    assert len(parts) == 50 and all(1 <= len(part) <= 6 and part.shape[1] == 2 for part in parts)


def test_missing_values_are_modelled_not_dropped():
    features, _ = arrays(40)
    features[::2, :, 0] = np.nan  # whole sequences without a value
    features[1, 2, 0] = np.nan
    model = DGAN(QUICK).train_numpy(features)
    _, made = model.generate_numpy(200)
    assert made.shape == (200, 6, 2)
    assert np.isnan(made[:, :, 0]).any() and not np.isnan(made[:, :, 1]).any()


def test_explicit_noise_replays_bit_for_bit_and_is_shape_checked():
    features, attributes = arrays()
    model = DGAN(Config(**{**QUICK.__dict__, "sample_len": 2})).train_numpy(features, attributes=attributes)
    noise = torch.randn(5, 10), torch.randn(5, 3, 10)
    first, second = (model.generate_numpy(attribute_noise=noise[0], feature_noise=noise[1]) for _ in "12")
    assert np.array_equal(first[1], second[1]) and np.array_equal(first[0], second[0])
    with pytest.raises(ValueError, match=r"feature_noise of shape \(5, 3, 10\), got \(5, 6, 10\)"):
        model.generate_numpy(attribute_noise=noise[0], feature_noise=torch.randn(5, 6, 10))
    for wrong in ({}, {"n": 3, "attribute_noise": noise[0]}, {"attribute_noise": noise[0]}, {"n": 0}):
        with pytest.raises(ValueError, match="Expected"):
            model.generate_numpy(**wrong)


def test_wide_tables_keep_their_columns():
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(30, 4)).cumsum(1), columns=["jan", "feb", "mar", "apr"])
    wide.insert(0, "shop", rng.choice(["north", "south"], 30))
    model = DGAN(QUICK).train_dataframe(wide, attribute_columns=["shop"])
    made = model.generate_dataframe(6)
    assert list(made.columns) == list(wide.columns) and len(made) == 6
    assert list(made.dtypes) == list(wide.dtypes)
    assert (model.generate_dataframe(5, conditions={"shop": "south"}).shop == "south").all()


def test_wide_tables_keep_order_dtypes_names_and_have_fresh_ids(tmp_path):
    rng = np.random.default_rng(0)
    wide = pd.DataFrame({1: rng.integers(0, 9, 30), 0: rng.normal(size=30)})
    wide.insert(1, "shop", rng.choice(["north", "south"], 30))
    wide["code"], wide["unused"] = [f"c{i}" for i in range(30)], 7
    model = DGAN(QUICK).train_dataframe(wide, ["shop"], [0, 1], example_id_column="code")
    kept = wide[[1, "shop", 0, "code"]]
    model.save(tmp_path)
    for made in (model.generate_dataframe(6), DGAN.load(tmp_path).generate_dataframe(6)):
        assert list(made.columns) == list(kept.columns) and list(made.dtypes) == list(kept.dtypes)
        assert made.code.tolist() == [str(i) for i in range(1, 7)]
    table = from_frame(wide, attribute_columns=["shop"], feature_columns=[0, 1], example_id_column="code")
    back = to_wide(table.frame, table)
    pd.testing.assert_frame_equal(back.drop(columns="code"), kept.drop(columns="code"))


def test_long_tables_keep_names_order_dtypes_and_keys():
    table = long_table(times=pd.date_range("2021-03-01", periods=5).strftime("%Y-%m-%d"))
    model = DGAN(QUICK).train_dataframe(table, ["level"], ["visits"], "person", "day", df_style="long")
    made = model.generate_dataframe(9)
    assert list(made.columns) == list(table.columns) == ["person", "day", "visits", "level"]
    assert made.person.nunique() == 9 and (made.dtypes == table[made.columns].dtypes).all()
    assert (made.groupby("person")["level"].nunique() == 1).all()
    assert made.visits.between(0, 29).all()


def test_times_are_not_those_of_a_real_example():
    """Every example has its own times; generated ones are modelled, in bounds, rising, and differ."""
    rng = np.random.default_rng(2)
    days = [np.sort(rng.choice(300, 5, replace=False)) for _ in range(40)]
    times = [(pd.Timestamp("2020-01-01") + pd.to_timedelta(d, "D")).strftime("%Y-%m-%d") for d in days]
    table = long_table(40, times=times[0])
    table["day"] = np.concatenate(times)
    model = DGAN(QUICK).train_dataframe(table, ["level"], ["visits"], "person", "day", df_style="long")
    made = model.generate_dataframe(20)
    patterns = made.groupby("person").day.apply(tuple)
    assert patterns.nunique() > 10
    stamps = pd.to_datetime(made.day)
    assert stamps.between("2020-01-01", "2020-10-27").all()
    assert (stamps.groupby(made.person).diff().dropna() > pd.Timedelta(0)).all()


def test_declared_calendar_is_used():
    table = long_table(times=[1, 2, 4, 8, 16])
    model = DGAN(QUICK).train_dataframe(
        table, ["level"], ["visits"], "person", "day", df_style="long", calendar=[1, 2, 4, 8, 16]
    )
    assert model.generate_dataframe(3).day.tolist() == [1, 2, 4, 8, 16] * 3


def test_dates_as_text_in_another_order_sort_as_dates():
    times = ["2021-12-31", "2022-01-01", "2022-02-01"]
    table = long_table(30, steps=3, times=times)
    table["visits"] = np.tile([0, 10, 20], 30)
    shuffled = table.sample(frac=1, random_state=0)
    shuffled["day"] = pd.to_datetime(shuffled.day).dt.strftime("%m/%d/%Y")  # sorts wrongly as text
    model = DGAN(QUICK).train_dataframe(shuffled, ["level"], ["visits"], "person", "day", df_style="long")
    units = model._trained.generator.encoder
    parts = units.decode(units.encode(shuffled), seed=0)
    assert parts.visits.tolist() == [0, 10, 20] * 30


def test_saved_models_hold_no_pickle_and_no_row(tmp_path):
    features, attributes = arrays()
    model = DGAN(QUICK).train_numpy(features, attributes=attributes)
    model.save(tmp_path / "model")
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["dgan.json", "generator.safetensors"]
    assert not any(zipfile.is_zipfile(path) for path in (tmp_path / "model").iterdir())
    again = DGAN.load(tmp_path / "model")
    for a, b in zip(model.generate_numpy(5, seed=3), again.generate_numpy(5, seed=3)):
        assert np.array_equal(a, b)
    assert "NON-PRIVATE" in (tmp_path / "model" / "dgan.json").read_text()


def test_windows_order_dates_as_dates():
    days = pd.date_range("2021-11-01", periods=90).strftime("%m/%d/%Y")  # sorts wrongly as text
    series = pd.DataFrame({"day": days, "x": range(90)}).sample(frac=1, random_state=0)
    with pytest.warns(UserWarning, match="SERIES"):
        cut = windows(series, 10, time_column="day")
    assert cut.x.tolist() == list(range(90))


def test_long_lists_get_binary_codes_from_the_cutoff_of_the_configuration():
    features = np.random.default_rng(0).integers(0, 40, (60, 3, 1)).astype(str).astype(object)
    for cutoff, kind in ((20, "bits"), (50, "onehot")):
        config = Config(**{**QUICK.__dict__, "binary_encoder_cutoff": cutoff})
        before = dict(config.__dict__)
        model = DGAN(config).train_numpy(features, ["discrete"])
        (segment,) = model._trained.generator.encoder.layout.features
        assert segment.kind == kind and config.__dict__ == before
        _, made = model.generate_numpy(100)
        assert {str(v) for v in made.ravel()} <= {str(v) for v in features.ravel()}


def test_windows_say_loudly_that_the_series_is_the_unit():
    series = pd.DataFrame({"t": range(11, 0, -1), "x": range(11)})
    with pytest.warns(UserWarning, match="THE SERIES, NOT THE WINDOW.*1 rows at the end"):
        cut = windows(series, 5, time_column="t")
    assert cut.t.tolist() == list(range(1, 11))  # ordered by time before the rest is cut off
    assert cut.window.tolist() == [0] * 5 + [1] * 5
    with pytest.raises(ValueError, match="length=12"):
        windows(series, 12)


def test_progress_counts_every_batch():
    features, _ = arrays(40)
    seen = []
    DGAN(Config(**{**QUICK.__dict__, "epochs": 2})).train_numpy(features, progress_callback=seen.append)
    assert [(p.epoch, p.batch) for p in seen] == [(e, b) for e in range(2) for b in range(3)]
    assert {(p.total_epochs, p.total_batches) for p in seen} == {(2, 3)}


def test_bad_input_is_named():
    features, attributes = arrays()
    with pytest.raises(InvalidInput, match="attributes: have shape"):
        DGAN(QUICK).train_numpy(features, attributes=attributes[:3])
    with pytest.raises(InvalidInput, match="features: are not a 3-D array"):
        DGAN(QUICK).train_numpy(features[0])
    with pytest.raises(InvalidInput, match="has one example"):
        DGAN(QUICK).train_numpy(features[:1])
    with pytest.raises(InvalidInput, match="example_id_column"):
        DGAN(QUICK).train_dataframe(long_table(), df_style="long")
    with pytest.raises(InvalidInput, match="max_sequence_len=3: 6 steps"):
        DGAN(Config(**{**QUICK.__dict__, "max_sequence_len": 3})).train_numpy(features)
    changing = long_table()
    changing.loc[0, "level"] = "high" if changing.level[0] == "low" else "low"
    with pytest.raises(InvalidInput, match="level: is declared an attribute but changes"):
        DGAN(QUICK).train_dataframe(changing, ["level"], ["visits"], "person", df_style="long")
    with pytest.raises(DpsynthError, match="not trained"):
        DGAN(QUICK).generate_numpy(3)
