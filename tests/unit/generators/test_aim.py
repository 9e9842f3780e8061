"""The Markov random field behind AIM, against brute force over every joint cell; and a whole small run."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("mbi")

from dpsynth import pipeline
from dpsynth.data.bought.grid import coarsen, fine_domain
from dpsynth.data.bought.statistics import Marginal, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.generators import aim
from dpsynth.generators.marginals.junction_tree import JunctionTree
from dpsynth.generators.marginals.random_field import Field
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.verify import verify

SCHEMA = Schema(
    columns=(
        Integer(name="age", min=0, max=4),
        Categorical(name="town", values=("Ayr", "Bath", "Cork")),
        Categorical(name="pet", values=("ant", "bee", "cat")),
        Categorical(name="rich", values=("no", "yes")),
    ),
    target="rich",
    num_units=600,
)


def table(num: int = 600) -> pd.DataFrame:
    random = np.random.default_rng(0)
    age = random.integers(0, 5, num)
    pick = np.where(random.random(num) < 0.8, age % 3, random.integers(0, 3, num))
    other = np.where(random.random(num) < 0.7, pick, random.integers(0, 3, num))
    rich = random.random(num) < 0.2 + 0.2 * pick
    return pd.DataFrame(
        {
            "age": age,
            "town": np.array(["Ayr", "Bath", "Cork"], dtype=object)[pick],
            "pet": np.array(["ant", "bee", "cat"], dtype=object)[other],
            "rich": np.array(["no", "yes"], dtype=object)[rich.astype(int)],
        }
    )


def bought(*cliques: tuple[str, ...], stddev: float = 0.0) -> Statistics:
    """Exact histograms of single columns and of some cliques."""
    rows, domain, random = table(), fine_domain(SCHEMA), np.random.default_rng(1)
    codes = {cells.column.name: cells.codes(rows[cells.column.name]) for cells in domain.cells}

    def histogram(clique: tuple[str, ...]) -> Marginal:
        shape = tuple(domain[name].fine_size for name in clique)
        flat = np.ravel_multi_index([codes[name] for name in clique], shape)
        counts = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(float)
        noise = stddev * random.standard_normal(shape)
        return Marginal(columns=clique, counts=counts + noise, noise_stddev=stddev)

    fine = {name: histogram((name,)) for name in domain.names}
    return Statistics(
        num_units=len(rows),
        num_rows=len(rows),
        domain=coarsen(domain, fine, num_rows=len(rows)),
        fine=fine,
        marginals=tuple(histogram(clique) for clique in cliques),
    )


def brute_force(potentials, sizes, total, clique):
    """The field's answer by adding up the exponential of every joint cell's potentials."""
    names = list(sizes)
    joint = np.zeros([sizes[name] for name in names])
    for cell in itertools.product(*(range(sizes[name]) for name in names)):
        place = dict(zip(names, cell))
        joint[cell] = np.exp(sum(values[tuple(place[n] for n in c)] for c, values in potentials.items()))
    kept = tuple(i for i, name in enumerate(names) if name not in clique)
    return joint.sum(kept) * total / joint.sum()


def test_the_field_answers_as_brute_force_does():
    statistics = bought(("age", "town"), ("town", "pet"), ("age", "pet"))
    field = Field(statistics.domain)
    field.fit(statistics, 20)
    sizes = dict(zip(statistics.domain.names, statistics.domain.sizes))
    for clique in (("age", "town"), ("town", "pet"), ("age", "pet")):
        expected = brute_force(field.potentials, sizes, 600.0, clique)
        assert np.allclose(field.answer(clique), expected, atol=1e-6)


def test_the_tree_knows_the_sum_of_the_field():
    statistics = bought(("age", "town"), ("town", "pet"))
    sizes = dict(zip(statistics.domain.names, statistics.domain.sizes))
    random = np.random.default_rng(0)
    cliques = (("age", "town"), ("town", "pet"), ("pet",))
    potentials = {c: random.standard_normal([sizes[name] for name in c]) for c in cliques}
    columns = [sizes[name] for name in sizes]
    joint = np.zeros(columns)
    for cell in itertools.product(*(range(size) for size in columns)):
        place = dict(zip(sizes, cell))
        joint[cell] = sum(values[tuple(place[n] for n in c)] for c, values in potentials.items())
    tree = JunctionTree(statistics.domain, cliques)
    _, found = tree.infer(potentials)
    assert found == pytest.approx(float(np.log(np.exp(joint).sum())), abs=1e-9)


def test_the_fit_comes_as_near_as_the_noise_allows_from_scratch_and_from_the_last_one():
    first, second = bought(("age", "town")), bought(("age", "town"), ("town", "pet"))
    for rounds in ((second,), (first, second)):
        field = Field(second.domain)
        for statistics in rounds:
            field.fit(statistics, 100)
        for marginal in second.marginals:  # its noise counts as one row at least
            error = (field.answer(marginal.columns) - marginal.counts) / max(marginal.noise_stddev, 1.0)
            assert (error**2).mean() < 1.5


def test_rows_of_the_field_follow_its_cliques_and_what_they_imply():
    statistics = bought(("age", "town"), ("town", "pet"))
    encoder = TableEncoder(SCHEMA, statistics)
    generator = aim.Generator(aim.Config(), encoder, statistics, seed=0, private=False)
    generator.fit_public()
    made = encoder.decode(generator.sample(20_000, seed=0), seed=0)
    for pair in (["age", "town"], ["town", "pet"]):
        seen = pd.crosstab(made[pair[0]], made[pair[1]], normalize=True).to_numpy()
        real = pd.crosstab(table()[pair[0]], table()[pair[1]], normalize=True).to_numpy()
        assert np.abs(seen - real).sum() < 0.03


def test_candidates_are_weighted_by_what_they_share_with_the_workload():
    weights = aim._candidates(["a", "b", "c", "t"], "t")
    assert set(weights) == {
        ("a", "b"),
        ("a", "b", "t"),
        ("a", "c"),
        ("a", "c", "t"),
        ("b", "c"),
        ("b", "c", "t"),
    }
    assert weights[("a", "b", "t")] == 1.0
    assert weights[("a", "b")] == pytest.approx((2 + 1 + 1) / (3 + 2 + 2))


def test_a_run_keeps_its_budget_finds_the_strongest_pair_and_verifies(tmp_path):
    recipe = pipeline.Recipe(
        generator="aim",
        settings=aim.Config(rounds=2, choices=1, iterations=20),
        privacy=PrivacyConfig(epsilon=20.0, delta=1e-4),
        training=TrainingConfig(),
    )
    run = pipeline.run(PrivateTable(table(), SCHEMA), recipe, tmp_path)
    asked = [set(m.columns) for m in run.release.statistics.marginals]
    assert {"age", "town"} <= asked[0] or {"town", "pet"} <= asked[0]
    found = verify(tmp_path / "release")
    assert [check.name for check in found.checks if not check.passed] == []
    assert [e.name for e in run.plan.events if e.choices] == ["marginals/1/choice", "marginals/2/choice"]
