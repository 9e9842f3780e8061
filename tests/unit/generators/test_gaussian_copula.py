"""Correlations behind noisy cells, the nearest correlation matrix, and a simulator that spends nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.bought.grid import coarsen, fine_domain
from dpsynth.data.bought.statistics import Marginal, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import InvalidInput
from dpsynth.generators import gaussian_copula as copula
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.verify import verify

SCHEMA = Schema(
    columns=(
        Integer(name="age", min=0, max=60),
        Integer(name="wage", min=0, max=60),
        Categorical(name="town", values=("Ayr", "Bath", "Cork")),
    ),
    num_units=30_000,
)
TRUE = np.array([[1.0, 0.7, -0.4], [0.7, 1.0, 0.0], [-0.4, 0.0, 1.0]])


def table(num: int = 30_000) -> pd.DataFrame:
    normals = np.random.default_rng(0).standard_normal((num, 3)) @ np.linalg.cholesky(TRUE).T
    towns = np.array(["Ayr", "Bath", "Cork"], dtype=object)
    return pd.DataFrame(
        {
            "age": np.clip(30 + 10 * normals[:, 0], 0, 60).round().astype(int),
            "wage": np.clip(20 + 8 * np.exp(0.5 * normals[:, 1]), 0, 60).round().astype(int),
            "town": towns[np.digitize(normals[:, 2], [-0.3, 0.8])],
        }
    )


def recipe(epsilon: float, **settings) -> pipeline.Recipe:
    return pipeline.Recipe(
        generator="gaussian_copula",
        settings=copula.Config(**settings),
        privacy=PrivacyConfig(epsilon=epsilon, delta=1e-5),
        training=TrainingConfig(),
        num_rows=20_000,
    )


def test_correlations_behind_three_normals_are_found_from_noisy_cells(tmp_path):
    """Noise of about 10 rows in 30,000; the first-order formula is off by less than 0.05 at 0.7."""
    run = pipeline.run(PrivateTable(table(), SCHEMA), recipe(2.0), tmp_path)
    found = pipeline.rebuild(run.release).state()["correlations"].numpy()
    assert np.abs(found - TRUE).max() < 0.06
    made = run.release.synthetic
    real = table()[["age", "wage"]].corr("spearman").iloc[0, 1]
    assert made[["age", "wage"]].corr("spearman").iloc[0, 1] == pytest.approx(real, abs=0.06)
    assert made["town"].value_counts(normalize=True)["Bath"] == pytest.approx(
        (table()["town"] == "Bath").mean(), abs=0.02
    )
    assert verify(tmp_path / "release").passed


def test_the_nearest_correlation_matrix_is_higham_s_example():
    """Higham (2002), section 4: the matrix with two equal negative eigenvalues, distance 0.5278."""
    matrix = np.array([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    found = copula.nearest_correlation(matrix, rounds=1_000)
    assert np.linalg.norm(found - matrix) == pytest.approx(0.5278, abs=1e-3)
    assert np.allclose(found[0], [1.0, 0.7607, 0.1573], atol=1e-3)


def test_a_correlation_matrix_stays_and_others_become_one():
    assert np.allclose(copula.nearest_correlation(TRUE), TRUE, atol=1e-5)
    random = np.random.default_rng(0).uniform(-1, 1, (12, 12))
    found = copula.nearest_correlation(np.triu(random, 1) + np.triu(random, 1).T + np.eye(12))
    assert np.allclose(np.diag(found), 1.0) and np.allclose(found, found.T)
    assert np.linalg.eigvalsh(found).min() > 0


def test_declared_marginals_and_correlations_are_released_at_epsilon_0(tmp_path):
    settings = {
        "declared": True,
        "marginals": {"age": (30.0, 5.0), "town": (0.2, 0.3, 0.5)},
        "correlations": {"age": {"wage": 0.8}},
    }
    private = PrivateTable(table(50), SCHEMA)
    run = pipeline.run(private, recipe(1.0, **settings), tmp_path / "a")
    assert run.plan.events == () and run.plan.epsilon == 0.0
    made = run.release.synthetic
    assert made["age"].mean() == pytest.approx(30.0, abs=0.3)
    assert made["age"].std() == pytest.approx(5.0, abs=0.3)
    assert made["town"].value_counts(normalize=True)["Cork"] == pytest.approx(0.5, abs=0.02)
    # a correlation of 0.8 between normals is one of 6 / pi * asin(0.4) between ranks
    assert made[["age", "wage"]].corr("spearman").iloc[0, 1] == pytest.approx(0.786, abs=0.02)
    assert verify(tmp_path / "a" / "release").passed
    again = pipeline.sample(run.release, 500, seed=3)
    assert again.equals(pipeline.sample(run.release, 500, seed=3))
    other = pipeline.run(PrivateTable(table(900).iloc[50:], SCHEMA), recipe(1.0, **settings), tmp_path / "b")
    assert other.release.synthetic.equals(made)


def test_declarations_that_do_not_fit_are_refused_all_at_once(tmp_path):
    settings = {
        "declared": True,
        "marginals": {"age": (30.0, 0.0), "town": (1.0,), "shoe": (1.0, 2.0)},
        "correlations": {"age": {"hat": 0.1}},
    }
    with pytest.raises(InvalidInput) as error:
        pipeline.run(PrivateTable(table(50), SCHEMA), recipe(1.0, **settings), tmp_path)
    assert len(error.value.problems) == 4
    with pytest.raises(ValueError, match="declared=true"):
        copula.Config(correlations={"age": {"wage": 0.1}})


def test_categories_are_ranked_by_the_target_where_it_was_bought_beside_them():
    names = ("Ayr", "Bath", "Cork")
    schema = Schema(
        columns=(Categorical(name="town", values=names), Categorical(name="rich", values=("no", "yes"))),
        target="rich",
    )
    counts = np.array([[10.0, 90.0], [90.0, 10.0], [50.0, 50.0]])
    domain = fine_domain(schema)
    fine = {
        "town": Marginal(columns=("town",), counts=counts.sum(1), noise_stddev=0.0),
        "rich": Marginal(columns=("rich",), counts=counts.sum(0), noise_stddev=0.0),
    }
    statistics = Statistics(
        num_units=300,
        num_rows=300,
        domain=coarsen(domain, fine),
        fine=fine,
        crossed={"town": Marginal(columns=("town", "rich"), counts=counts, noise_stddev=0.0)},
    )
    assert copula._order(statistics, "town").tolist() == [1, 2, 0]
    encoder = TableEncoder(schema, statistics)
    made = copula.Generator(copula.Config(), encoder, statistics, seed=0, private=True).sample(5_000, seed=0)
    assert np.bincount(made[:, 0].astype(int)) / 5_000 == pytest.approx([1 / 3] * 3, abs=0.03)
