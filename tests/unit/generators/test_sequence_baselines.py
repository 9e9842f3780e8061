import dataclasses
import importlib
from dataclasses import replace

import numpy as np
import pytest
from panels import CALENDAR, SCHEMA, exact, panel

from dpsynth import pipeline
from dpsynth.data.bought.statistics import Marginal
from dpsynth.data.tables.table import PrivateTable
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.panel import make_panel
from dpsynth.evaluation.sequences import autocorrelations
from dpsynth.generators.arima import Config as ArimaConfig
from dpsynth.generators.arima import simulate
from dpsynth.generators.sequence_independent import Config as FloorConfig
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.plan.pricing import describe_plan
from dpsynth.privacy.verify import verify

NAMES = ["sequence_independent", "var", "arima"]


def made(name, schema=SCHEMA, num=400, stddev=0.0):
    module = importlib.import_module(f"dpsynth.generators.{name}")
    config, table = module.Config(), panel(num, schema=schema)
    statistics = exact(table, schema)
    encoder = module.Generator.encoder(config, schema, statistics, private=True)
    units, rng = encoder.encode(table), np.random.default_rng(0)
    marginals = []
    for question in module.Generator.questions(config, schema, private=True):
        counts = encoder.count(question, units) / encoder.units.resolution
        noisy = counts + stddev * rng.standard_normal(counts.shape)
        marginals.append(Marginal(columns=question.columns, counts=noisy, noise_stddev=stddev))
    statistics = replace(statistics, marginals=tuple(marginals))
    return module.Generator(config, encoder, statistics, seed=0, private=True), table


def acf(table, reference, schema=SCHEMA):
    return autocorrelations(make_panel(table, schema, make_binning(schema, reference)), 1)["wage"]


@pytest.mark.parametrize("stddev", [0.0, 300.0], ids=["no noise", "noise alone"])
@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["variable", "fixed"])
@pytest.mark.parametrize("name", NAMES)
def test_samples_are_valid_exact_in_number_and_replayable(name, schema, stddev):
    generator, table = made(name, schema, stddev=stddev)
    units = generator.sample(57, seed=1)
    assert np.array_equal(units, generator.sample(57, seed=1))
    back = generator.encoder.decode(units, seed=0)
    assert back.who.nunique() == 57 and list(back.columns) == list(table.columns)
    lengths = back.groupby("who").size()
    assert lengths.between(schema.sequence.min_length, schema.sequence.max_length).all()
    assert np.isfinite(back.wage).all() and back.wage.between(0, 100).all()
    fixed = generator.sample(30, seed=1, conditions={"group": "b"})
    assert (generator.encoder.decode(fixed, seed=0).group == "b").all()


def test_the_floor_keeps_margins_and_loses_memory():
    generator, table = made("sequence_independent")
    back = generator.encoder.decode(generator.sample(1500, seed=0), seed=0)
    assert abs(acf(back, table)) < 0.1 < 0.8 < acf(table, table)
    assert abs(back.wage.mean() - table.wage.mean()) < 1.5
    assert abs(back.hours.isna().mean() - table.hours.isna().mean()) < 0.03
    shares = [t.groupby("who").size().value_counts(normalize=True).sort_index() for t in (back, table)]
    assert np.abs(shares[0] - shares[1]).max() < 0.06


def test_the_autoregression_keeps_memory():
    generator, table = made("var")
    back = generator.encoder.decode(generator.sample(1500, seed=0), seed=0)
    assert acf(back, table) > 0.8 * acf(table, table)
    assert abs(back.wage.std() - table.wage.std()) < 2.0


def test_arima_follows_its_parameters():
    rng = np.random.default_rng(0)
    path = simulate(ArimaConfig(ar=(0.7,), ma=(0.4,), mean=2.0), 4000, 6, rng)
    # ARMA(1, 1): variance and first autocorrelation, Box & Jenkins (1970), section 3.4
    variance = (1 + 2 * 0.7 * 0.4 + 0.4**2) / (1 - 0.7**2) * 0.1**2
    first = (1 + 0.7 * 0.4) * (0.7 + 0.4) / (1 + 2 * 0.7 * 0.4 + 0.4**2)
    assert path.mean() == pytest.approx(2.0, abs=0.01)  # 6 standard errors
    assert path.var() == pytest.approx(variance, rel=0.08)
    assert np.corrcoef(path[:, 2], path[:, 3])[0, 1] == pytest.approx(first, abs=0.04)
    walk = simulate(ArimaConfig(ar=(), d=1, mean=0.0), 4000, 5, rng)
    assert np.allclose(walk.var(axis=0), 0.1**2 * np.arange(1, 6), rtol=0.15)


def test_arima_is_released_at_epsilon_zero_and_reads_nothing(tmp_path):
    class Unreadable(PrivateTable):
        def read(self, receipt):
            raise AssertionError("a private row was read")

    recipe = pipeline.Recipe(
        generator="arima", settings=ArimaConfig(), privacy=PrivacyConfig(), training=TrainingConfig()
    )
    plan = pipeline.plan(SCHEMA, recipe)
    assert plan.events == () and plan.epsilon == 0.0 and "Buys nothing" in describe_plan(plan)
    release = pipeline.run(Unreadable(panel(30), SCHEMA), recipe, tmp_path).release
    assert release.claim == "epsilon=0, delta=1e-05" and len(release.ledger) == 1
    assert release.synthetic.who.nunique() == 100  # the schema's public number
    assert all(check.passed for check in verify(tmp_path / "release").checks)
    floor = dataclasses.replace(recipe, generator="sequence_independent", settings=FloorConfig())
    with pytest.raises(AssertionError, match="was read"):  # the broken twin: a method that does measure
        pipeline.run(Unreadable(panel(30), SCHEMA), floor, tmp_path / "floor")


def test_arima_buys_what_the_schema_leaves_open():
    recipe = pipeline.Recipe(
        generator="arima", settings=ArimaConfig(), privacy=PrivacyConfig(), training=TrainingConfig()
    )
    (event,) = pipeline.plan(replace(SCHEMA, num_units=None), recipe).events
    assert event.name == "count"
    open_wage = SCHEMA.with_columns(replace(SCHEMA.column("wage"), min=None, max=None))
    plan = pipeline.plan(open_wage, recipe)
    assert [e.name for e in plan.events] == ["columns/range", "columns/narrow"]
    assert 0.99 < plan.epsilon <= plan.guarantee.epsilon == 1.0


def test_arima_reads_no_statistics_of_declared_columns():
    generator, _ = made("arima")
    other, _ = made("arima", num=30)
    assert np.array_equal(generator.sample(20, seed=0), other.sample(20, seed=0))
    with pytest.raises(ValueError, match="stationary"):
        ArimaConfig(ar=(1.1,))
