"""Trees where pairs leave the target open, pairs where they do not; rows that carry what was bought."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from parity import SCHEMA, make_table

from dpsynth import pipeline
from dpsynth.audit.invariance import check_invariance
from dpsynth.data.bought.questions import order_rounds, refined_questions
from dpsynth.data.bought.statistics import GROUPS, STRATA
from dpsynth.data.schema import Integer
from dpsynth.data.tables.table import PrivateTable
from dpsynth.generators.base import load_generator
from dpsynth.generators.marginals import order_seeker
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.measuring.answers import Shop
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from tests.support.leftovers import leftovers
from tests.support.swamped import SwampedEntropy

METHODS = ("bayes_net", "marginal_net", "tvae", "ctgan")
FAST = {"fit_pool": 6_000, "anchor_steps": 2}


def recipe(name: str = "bayes_net", epsilon: float = 8.0) -> pipeline.Recipe:
    config = load_generator(name).Config
    known = {key: value for key, value in FAST.items() if key in config.__dataclass_fields__}
    return pipeline.Recipe(
        generator=name,
        settings=config(**known),
        privacy=PrivacyConfig(epsilon=epsilon, delta=1e-5),
        training=TrainingConfig(steps=2),
    )


def agreement(frame) -> float:
    """Share of rows whose label is the parity of the first three bits."""
    odd = (frame[["bit0", "bit1", "bit2"]] == "y").sum(axis=1) % 2 == 1
    return float((odd == (frame["label"] == "odd")).mean())


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    run = pipeline.run(PrivateTable(make_table(4_000), SCHEMA), recipe(), folder)
    return run.release, folder / "release"


def trees(statistics) -> list:
    return [m for m in statistics.marginals if m.partition is not None]


def test_rows_keep_what_hangs_on_three_columns_together(released):
    release, _ = released
    assert agreement(release.synthetic) > 0.9  # real rows: 0.97, pairs alone: 0.5
    rounds = order_rounds(SCHEMA)
    assert len(trees(release.statistics)) == rounds.num * rounds.choices
    assert {"bit0", "bit1", "bit2"} <= set(trees(release.statistics)[0].partition.levels[0][0].columns)


def test_a_release_with_trees_verifies_and_samples_alone(released):
    _, folder = released
    assert verify(folder).passed, verify(folder).table()
    loaded = Release.load(folder)
    assert agreement(pipeline.sample(loaded, 2_000, seed=3)) > 0.9
    odd = pipeline.sample(loaded, 500, seed=3, conditions={"label": "odd"})
    assert set(odd["label"]) == {"odd"} and agreement(odd) > 0.8
    low = pipeline.sample(loaded, 500, seed=3, conditions={"bit0": "y"})
    assert set(low["bit0"]) == {"y"} and agreement(low) > 0.8


def test_a_tree_over_other_columns_is_found(released):
    folder = released[1]
    text = (folder / "release.json").read_text()
    facts = json.loads(text)
    tree = next(m for m in facts["statistics"]["marginals"] if "partition" in m)
    tree["partition"][0][0]["columns"][0] = "nowhere"
    (folder / "release.json").write_text(json.dumps(facts))
    try:
        assert "tree over other columns" in verify(folder).table()
    finally:
        (folder / "release.json").write_text(text)


@pytest.mark.parametrize("name", METHODS[1:])
def test_every_method_that_fits_released_rows_keeps_it(name, tmp_path):
    run = pipeline.run(PrivateTable(make_table(4_000), SCHEMA), recipe(name), tmp_path)
    assert agreement(run.release.synthetic) > 0.85


def test_where_pairs_suffice_pairs_are_refined_as_ever(tmp_path):
    """The label follows one bit alone: no tree is bought, and the pairs are those that came first before."""
    run = pipeline.run(PrivateTable(make_table(4_000, together=1), SCHEMA), recipe(), tmp_path)
    statistics, rounds = run.release.statistics, order_rounds(SCHEMA)
    assert not trees(statistics)
    bought = [m for m in statistics.marginals if not m.columns[0].startswith(GROUPS)]
    assert len(bought) == rounds.num * rounds.choices
    wanted = refined_questions(statistics, len(bought))
    assert {m.columns for m in bought} == {question.columns for question in wanted}


def test_noise_alone_buys_no_trees(tmp_path):
    """Labels are coins: what seems to hang together is chance, and small tables look as if it did.

    The noise is fixed, so that the one run in some hundreds in which it is large is not met here.
    """
    for seed in range(3):
        frame = make_table(300, seed=seed)
        frame["label"] = np.random.default_rng(seed).permutation(frame["label"].to_numpy())
        folder, entropy = tmp_path / str(seed), FixedEntropy(seed)
        run = pipeline.run(PrivateTable(frame, SCHEMA), recipe(epsilon=0.5), folder, entropy=entropy)
        assert not trees(run.release.statistics)


def test_a_number_as_target_has_trees_of_its_strata(tmp_path):
    frame = make_table(4_000)
    noise = np.random.default_rng(0).integers(0, 40, len(frame))
    frame["label"] = np.where(frame["label"] == "odd", 60 + noise, noise)
    column = Integer(name="label", min=0, max=100)
    schema = replace(SCHEMA, columns=(*SCHEMA.columns[:-1], column))
    run = pipeline.run(PrivateTable(frame, schema), recipe(), tmp_path)
    assert trees(run.release.statistics)[0].columns == (STRATA + "label",)
    made = run.release.synthetic
    made["label"] = np.where(made["label"] >= 50, "odd", "even")
    assert agreement(made) > 0.75


def test_tables_without_a_target_or_with_few_columns_ask_for_no_trees():
    assert order_rounds(replace(SCHEMA, target=None)) is None
    few = replace(SCHEMA, columns=(*SCHEMA.columns[:2], SCHEMA.columns[-1]))
    assert order_rounds(few) is None


TABLE = make_table(120)
SEEN: dict[str, object] = {}


def leaves(tmp_path):
    def leave(table):
        SEEN["table"] = table
        SEEN["run"] = SEEN.get("run", 0) + 1
        folder = tmp_path / str(SEEN["run"])
        run = pipeline.run(PrivateTable(table, SCHEMA), recipe(), folder, entropy=SwampedEntropy())
        assert trees(run.release.statistics)  # the other branch would prove nothing
        return leftovers(folder)

    return leave


def test_nothing_unpaid_follows_one_unit_into_a_tree(tmp_path):
    assert check_invariance(leaves(tmp_path), TABLE, (TABLE.iloc[1:],)) == []


def grown_on_rows(monkeypatch):
    """Cuts where real rows lie."""
    honest = order_seeker._groups

    def by_rows(statistics, cells, most):
        groups = honest(statistics, cells, most)
        return groups if len(SEEN["table"]) % 2 else tuple(reversed(groups))

    monkeypatch.setattr(order_seeker, "_groups", by_rows)


def divided_unpaid(monkeypatch):
    """Divisions by the rows beside those that were paid for."""
    honest = Shop.divide

    def unpaid(self, name, ballots, score):
        chosen = honest(self, name, ballots, score)
        return [[max(at, 0) + len(SEEN["table"]) % 2 for at in places] for places in chosen]

    monkeypatch.setattr(Shop, "divide", unpaid)


@pytest.mark.parametrize("plant", [grown_on_rows, divided_unpaid])
def test_a_tree_that_follows_rows_is_caught(plant, tmp_path, monkeypatch):
    plant(monkeypatch)
    assert check_invariance(leaves(tmp_path), TABLE, (TABLE.iloc[1:],)) != []
