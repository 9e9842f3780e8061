"""The utility suite: its arms, its intervals, and one small run that ends in the store."""

from __future__ import annotations

import dataclasses
import math

import panels
import pytest
from joints import SCHEMA, make_table
from omegaconf import OmegaConf
from scipy import stats

from dpsynth.data.tables import datasets
from dpsynth.generators.base import load_generator
from dpsynth.places import CONF
from experiments.benchmark import checked
from experiments.benchmarks import utility


def test_every_ablation_is_a_setting_of_its_generator_and_changes_it():
    for changes in utility.ABLATIONS.values():
        for name, settings in changes.items():
            config = load_generator(name).Config
            changed = config(**settings)
            assert changed != config()
            assert set(settings) <= {field.name for field in dataclasses.fields(config)}


@pytest.mark.parametrize("name", ["ctgan", "tvae"])
def test_each_ablation_changes_what_is_bought_or_trained(name):
    """By the plan alone: no joint histograms; no rounds after the first; nothing trained."""
    from dpsynth.pipeline import Recipe, plan
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    schema = dataclasses.replace(SCHEMA, num_units=1_000)

    def events(**settings):
        recipe = Recipe(
            generator=name,
            settings=load_generator(name).Config(**settings),
            privacy=PrivacyConfig(),
            training=TrainingConfig(steps=5, epochs=None),
        )
        return [event.name for event in plan(schema, recipe).events]

    changed = {key: events(**arms[name]) for key, arms in utility.ABLATIONS.items() if name in arms}
    rounds = [f"marginals/{number}/{part}" for number in range(1, 5) for part in ("choice", "answers")]
    assert events() == changed["no fitting"] == ["columns/histograms", "marginals", *rounds, "training"]
    assert changed["no anchoring"] == ["columns/histograms", "training"]
    assert changed["no adaptivity"] == ["columns/histograms", "marginals", "training"]
    assert changed["no DP-SGD"] == ["columns/histograms", "marginals", *rounds]


def test_ablations_of_sequences_are_histograms_alone_critics_alone_and_both():
    from dpsynth.pipeline import Recipe, plan
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    def stages(**settings):
        config = load_generator("dgan").Config(**settings)
        recipe = Recipe(
            generator="dgan", settings=config, privacy=PrivacyConfig(), training=TrainingConfig(steps=5)
        )
        return [event.stage for event in plan(panels.SCHEMA, recipe).events][1:]

    assert stages() == ["marginals"]
    assert stages(**utility.ABLATIONS["no anchoring"]["dgan"]) == ["training"]
    assert stages(**utility.ABLATIONS["DP-SGD added"]["dgan"]) == ["marginals", "training"]


def test_the_suite_of_sequences_measures_their_own_figures(monkeypatch):
    groups = {"suite": "utility_sequences", "tracking": "none"}
    node = {key: OmegaConf.load(CONF / key / f"{file}.yaml") for key, file in groups.items()}
    chosen = checked(OmegaConf.create({**node, "rows": None}))
    assert [arm.name for arm in utility.arms(chosen.suite)] == [
        "sequence_independent",
        "var",
        "dgan",
        "dgan, no anchoring",
        "dgan, DP-SGD added",
        "dgan, marginals share 0.5",
    ]
    monkeypatch.setattr(datasets, "load", lambda config: (panels.panel(250), panels.SCHEMA))
    one = dataclasses.replace(chosen.suite, generators=("var",), ablated=(), epsilons=(10.0,))
    ((name, figures),) = utility.measure(utility.ROWS, one)
    rows = [figure.row for figure in figures]
    assert name == "var"
    assert {"acf", "cross_correlation", "step_marginal", "transition", "last_step", "seconds"} <= set(rows)
    assert all(math.isfinite(figure.value) for figure in figures)


@pytest.mark.parametrize("data, schema", [("parity4", "schemas/parity.yaml"), ("csv", "mine.yaml")])
def test_a_table_comes_with_the_schema_that_its_choice_names(data, schema, tmp_path, monkeypatch):
    monkeypatch.setattr(utility, "load_schema", lambda config: None)
    mine = {"schema": schema, "path": "mine.csv"} if data == "csv" else {}
    assert utility.Settings(data=data, **mine).table.schema == schema


def test_intervals_are_students_over_draws():
    draws = [{"auc": value} for value in (0.90, 0.91, 0.92)]
    figure = utility._figure("auc", "tvae", 1.0, draws)
    reach = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert (figure.value, figure.low, figure.high) == pytest.approx(
        (0.91, 0.91 - reach, 0.91 + reach), abs=1e-5
    )
    assert utility._figure("auc", "tvae", 1.0, draws[:1]).low is None
    for num, quantile in utility._STUDENT.items():
        assert quantile == pytest.approx(stats.t.ppf(0.975, num - 1), abs=1e-3)


def test_arms_are_the_generators_and_then_what_is_left_out():
    settings = utility.Settings(
        generators=("independent", "tvae"), ablated=("tvae",), marginals_shares=(0.5,)
    )
    names = [arm.name for arm in utility.arms(settings)]
    assert names[:2] == ["independent", "tvae"]
    assert names[2:6] == [f"tvae, {without}" for without, arms in utility.ABLATIONS.items() if "tvae" in arms]
    assert names[6:] == ["tvae, marginals share 0.5"]


def test_a_small_run_measures_every_row(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda config: (make_table(2_000), SCHEMA))
    settings = utility.Settings(
        generators=("independent", "bayes_net"), peers=(), ablated=(), epsilons=(100.0,), draws=2
    )
    found = dict(utility.measure(utility.ROWS, settings))
    assert list(found) == ["independent", "bayes_net"]
    by_row = {name: {figure.row: figure for figure in figures} for name, figures in found.items()}
    of_tables = ["auc", "tv_1way", "tv_2way", "tv_3way", "seconds"]
    assert all(list(rows) == of_tables for rows in by_row.values())
    assert by_row["bayes_net"]["tv_2way"].value < by_row["independent"]["tv_2way"].value


def test_a_study_grows_in_parts_and_runs_no_finished_draw_again(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "load", lambda config: (make_table(300), SCHEMA))
    asked = []

    def point(train, test, schema, arm, epsilon, settings):
        asked.append((arm.name, epsilon))
        return {"auc": 0.9 + 0.01 * len(asked)}

    monkeypatch.setattr(utility, "_point", point)
    first = utility.Settings(
        generators=("independent",),
        peers=(),
        ablated=(),
        epsilons=(1.0,),
        draws=2,
        keep=str(tmp_path / "kept.jsonl"),
    )
    one = list(utility.measure(("auc",), first))
    (tmp_path / "kept.jsonl").open("a").write('["half a li')  # killed while it wrote
    assert list(utility.measure(("auc",), first)) == one and len(asked) == 2
    more = dataclasses.replace(first, generators=("independent", "tvae"), epsilons=(1.0, 2.0), draws=3)
    two = list(utility.measure(("auc",), more))
    assert asked[2:] == [
        ("independent", 1.0),
        *3 * [("tvae", 1.0)],
        *3 * [("independent", 2.0)],
        *3 * [("tvae", 2.0)],
    ]
    assert list(utility.measure(("auc",), more)) == two and len(asked) == 12
