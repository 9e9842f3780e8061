"""Arrays and tables under a declared budget: through the ledger, refused where facts are missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dpsynth.audit.invariance import check_invariance
from dpsynth.data.schema import Categorical, Continuous, Datetime, Integer
from dpsynth.data.sequences.arrays import from_numpy
from dpsynth.errors import InvalidInput
from dpsynth.privacy.noise import entropy
from dpsynth.privacy.verify import verify
from dpsynth.timeseries import DGAN, Config, Declared, PrivacyConfig, TrainingConfig, model, windows
from dpsynth.timeseries.declared import declared_schema
from tests.support.leftovers import leftovers
from tests.support.swamped import SwampedEntropy

QUICK = Config(anchor_steps=3, private_batch_size=32, attribute_num_units=8, feature_num_units=8)
RAGGED = replace(QUICK, max_sequence_len=6)
BUDGET = PrivacyConfig(epsilon=3.0, delta=1e-4)
FULL = Declared(
    columns=(
        Categorical(name="attribute_0", values=("x", "y", "z")),
        Integer(name="attribute_1", min=0, max=10),
        Continuous(name="feature_0", min=-40, max=40, clip=True),
        Integer(name="feature_1", min=0, max=3),
    )
)


def arrays(num=60, steps=6):
    rng = np.random.default_rng(0)
    features = np.stack([rng.normal(size=(num, steps)).cumsum(1), rng.integers(0, 4, (num, steps))], axis=2)
    attributes = np.empty((num, 2), dtype=object)
    attributes[:, 0], attributes[:, 1] = rng.choice(["x", "y"], num), rng.integers(1, 9, num).tolist()
    return features, attributes


def long_table(num=40, steps=4):
    rng = np.random.default_rng(1)
    days = pd.date_range("2021-03-01", periods=steps).strftime("%d.%m.%Y")
    return pd.DataFrame(
        {
            "person": np.repeat([f"p{i}" for i in range(num)], steps),
            "day": np.tile(days, num),
            "visits": rng.integers(0, 30, num * steps),
            "level": np.repeat(rng.choice(["low", "high"], num), steps),
        }
    )


def private(config=QUICK, declared=None, **more):
    return DGAN(config, privacy=BUDGET, declared=declared, **more)


def test_an_array_is_trained_within_its_budget(tmp_path):
    features, attributes = arrays()
    trained = private(declared=FULL).train_numpy(features, attributes=attributes, folder=tmp_path)
    assert trained.claim == "epsilon=3, delta=0.0001" and trained._trained.table.frame is None
    assert verify(tmp_path / "release").passed
    events = [r["event"] for r in trained.release.ledger if r["kind"] == "charge"]
    assert events == ["count", "columns/histograms", "marginals"]  # nothing that is declared is bought
    heads, made = trained.generate_numpy(20)
    assert heads.shape == (20, 2) and made.shape == (20, 6, 2)
    assert set(heads[:, 0]) <= {"x", "y", "z"} and all(0 <= v <= 10 for v in heads[:, 1])
    assert np.abs(made[:, :, 0]).max() <= 40 and set(np.unique(made[:, :, 1])) <= {0, 1, 2, 3}


def test_bounds_and_values_that_are_not_declared_are_bought(tmp_path):
    features, _ = arrays(400)
    groups = np.random.default_rng(0).integers(5, 7, (400, 1))
    trained = private().train_numpy(
        features, attributes=groups, attribute_types=["discrete"], folder=tmp_path
    )
    events = [r["event"] for r in trained.release.ledger if r["kind"] == "charge"]
    assert {"columns/range", "columns/narrow", "columns/values"} <= set(events)
    heads, made = trained.generate_numpy(50)
    assert set(heads[:, 0]) <= {5, 6} and np.isfinite(made).all()
    schema = trained.release.schema
    assert schema.column("feature_0").min is None and schema.sequence.min_length == 6


def test_ragged_arrays_keep_their_declared_maximum(tmp_path):
    features, _ = arrays()
    ragged = [part[: 1 + i % 6] for i, part in enumerate(features)]
    trained = private(RAGGED, Declared(columns=FULL.columns[2:])).train_numpy(ragged, folder=tmp_path)
    heads, made = trained.generate_numpy(30)
    assert heads is None and len(made) == 30 and {part.shape[1] for part in made} == {2}
    assert max(map(len, made)) <= 6 and min(map(len, made)) >= 1


def test_tables_keep_style_names_dtypes_and_declared_times(tmp_path):
    table = long_table()
    day = Datetime(name="day", format="%d.%m.%Y", min="01.03.2021", max="04.03.2021")
    facts = Declared(
        columns=(
            day,
            Integer(name="visits", min=0, max=29),
            Categorical(name="level", values=("low", "high")),
        )
    )
    roles = (["level"], ["visits"], "person", "day")
    trained = private(replace(QUICK, max_sequence_len=4), facts)
    trained.train_dataframe(table, *roles, df_style="long", folder=tmp_path / "long")
    made = trained.generate_dataframe(9)
    assert list(made.columns) == list(table.columns) and (made.dtypes == table.dtypes).all()
    assert made.person.nunique() == 9
    wide = pd.DataFrame(np.random.default_rng(0).integers(0, 9, (50, 3)), columns=["jan", "feb", "mar"])
    trained = private(declared=Declared(columns=(Integer(name="value", min=0, max=8),)))
    trained.train_dataframe(wide, folder=tmp_path / "wide").save(tmp_path / "saved")
    again = DGAN.load(tmp_path / "saved")
    assert again.claim == trained.claim and verify(tmp_path / "saved" / "release").passed
    made = again.generate_dataframe(7, seed=2)
    pd.testing.assert_frame_equal(made, trained.generate_dataframe(7, seed=2))
    assert list(made.columns) == list(wide.columns) and (made.dtypes == wide.dtypes).all()


def test_critics_are_trained_where_asked_and_progress_counts_batches(tmp_path):
    features, attributes = arrays()
    seen = []
    trained = private(
        replace(QUICK, adversarial_weight=1.0),
        FULL,
        training=TrainingConfig(steps=5, sample_rate=0.25, epochs=None),
    )
    trained.train_numpy(features, attributes=attributes, progress_callback=seen.append, folder=tmp_path)
    assert [(p.epoch, p.batch) for p in seen] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert {(p.total_epochs, p.total_batches) for p in seen} == {(2, 4)}
    assert verify(tmp_path / "release").passed


def refused(folder, *arguments, config=QUICK, declared=None, frame=False, **named):
    with pytest.raises(InvalidInput) as error:
        trainer = private(config, declared)
        (trainer.train_dataframe if frame else trainer.train_numpy)(*arguments, folder=folder, **named)
    assert folder is None or not (folder / "ledger.jsonl").exists()  # nothing was charged
    return str(error.value)


def test_what_is_neither_declared_nor_for_sale_is_refused_before_anything_is_charged(tmp_path):
    features, attributes = arrays()
    folder = tmp_path / "run"
    said = refused(folder, features, attributes=attributes)
    assert "'attribute_0': comes from an array of objects" in said and "'attribute_1'" in said
    assert "longest sequence is private" in refused(folder, list(features))
    assert "max_sequence_len: is 3" in refused(folder, features, config=replace(QUICK, max_sequence_len=3))
    assert "folder: is missing" in refused(None, features)
    unknown = Declared(columns=(Continuous(name="feature_9", min=0, max=1),))
    assert "'feature_9': is declared but not in the table" in refused(folder, features, declared=unknown)
    gaps = features.copy()
    gaps[0, 0, 0] = np.nan
    assert "not nullable" in refused(folder, gaps)
    narrow = Declared(columns=(Continuous(name="feature_0", min=0, max=1),))
    assert "outside the declared [0.0, 1.0]" in refused(folder, features, declared=narrow)
    roles = (["level"], ["visits"], "person", "day")
    long = {"frame": True, "df_style": "long"}
    said = refused(folder, long_table(), *roles, config=replace(QUICK, max_sequence_len=4), **long)
    assert "'day': holds times as text" in said
    changing = long_table()
    changing.loc[0, "level"] = "high" if changing.level[0] == "low" else "low"
    calendar = ["01.03.2021", "02.03.2021", "03.03.2021", "04.03.2021"]
    said = refused(folder, changing, *roles, calendar=calendar, **long)
    assert "level: is declared an attribute but changes" in said
    texts = Declared(columns=(Categorical(name="value"),))
    wide = pd.DataFrame({"jan": ["a", "b", "a"], "feb": ["b", "b", "a"]})
    assert "has values of no declared type" in refused(folder, wide, declared=texts, frame=True)


def test_windows_of_one_series_are_no_units(tmp_path):
    series = pd.DataFrame({"t": range(200), "x": np.arange(200.0)})
    with pytest.warns(UserWarning, match="THE SERIES"):
        cut = windows(series, 10, time_column="t")
    roles = {"feature_columns": ["x"], "example_id_column": "window", "df_style": "long"}
    config = replace(QUICK, max_sequence_len=10)
    assert "the series, not the window" in refused(tmp_path, cut, config=config, frame=True, **roles)


def test_a_finished_folder_is_not_given_out_for_other_data(tmp_path):
    features, _ = arrays()
    private().train_numpy(features, folder=tmp_path)
    assert "holds a finished release" in str(
        pytest.raises(InvalidInput, private().train_numpy, features, folder=tmp_path).value
    )


def test_budgets_that_promise_nothing_are_not_taken_for_one():
    with pytest.raises(ValueError, match="to be 'dp'"):
        DGAN(privacy=PrivacyConfig(name="clipping"))


FEATURES = arrays(30)[0]
LARGEST = np.unravel_index(np.abs(FEATURES).argmax(), FEATURES.shape)[0]  # of a column with bought bounds
WITHOUT_EXAMPLE = [np.delete(FEATURES, i, axis=0) for i in (0, LARGEST)]


@pytest.fixture
def leave(tmp_path, monkeypatch):
    """Trains on ragged arrays under noise that swallows the data, and returns everything that stays."""
    monkeypatch.setattr(entropy, "make_entropy", lambda *_: SwampedEntropy())
    count = iter(range(10))

    def train(features) -> dict[str, bytes]:
        folder = tmp_path / str(next(count))
        ragged = [part[: 2 + i % 5] for i, part in enumerate(features)]
        private(RAGGED).train_numpy(ragged, folder=folder).save(folder / "saved")
        return leftovers(folder)

    return train


def test_nothing_unpaid_follows_one_example(leave):
    assert check_invariance(leave, FEATURES, WITHOUT_EXAMPLE) == []


def leak_bounds(table, declared, **_):
    """Bounds, kinds and lengths read off the data, as without privacy."""
    return model.observed_schema(table, None, 6)


def test_a_schema_read_off_the_data_would_be_caught(leave, monkeypatch):
    monkeypatch.setattr(model, "declared_schema", leak_bounds)
    assert check_invariance(leave, FEATURES, WITHOUT_EXAMPLE) != []


@pytest.mark.parametrize("other", [np.array([[1.5]]), np.array([[True]]), np.zeros((1, 1), "float32")])
def test_one_array_of_a_list_decides_no_kind_for_all(other):
    arrays = [np.array([[1], [2]]), np.array([[3], [0]])]
    schemas = [
        declared_schema(
            from_numpy(parts, cast=False), Declared(), calendar=None, max_sequence_len=3, fixed_length=None
        )
        for parts in (arrays, [*arrays, other])
    ]
    assert schemas[0] == schemas[1]
