"""The auditor audited: planted violations must be caught, sound mechanisms left alone.

Fast gates run with every commit; `slow` ones measure rates (`python -m dpsynth.audit.calibrate` prints all).
Chances below are those of a false failure of the test itself.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest

from dpsynth.audit import calibrate, rates
from dpsynth.audit.planted import ZOO
from dpsynth.audit.planted_steps import BREAKS, scale_noise

torch.set_num_threads(1)
halve = BREAKS["noise_halved"]
RELEASE = [v for v in ZOO if v.detector == "release"]


@pytest.mark.parametrize("epsilon, m", [(1.0, 1000), (4.0, 500), (8.0, 500)])
def test_halved_noise_is_caught_and_planned_noise_is_not(epsilon, m):
    # At alpha = 1e-4: power is above 0.999 for m as given; 2 alarms or more in 4 have chance 6e-8.
    assert rates.whitebox_rate(epsilon, trials=4, m=m, alpha=1e-4, break_plan=halve) >= 3
    assert rates.whitebox_rate(epsilon, trials=4, m=m, alpha=1e-4, seed=50) <= 1


@pytest.mark.parametrize("violation", [v for v in RELEASE if v.certain], ids=lambda v: v.name)
def test_copied_rows_are_caught(violation):
    assert all(violation.detect(True, seed) for seed in range(3))
    assert not all(violation.detect(False, seed) for seed in range(3))


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 8.0])
def test_estimators_keep_their_level(epsilon):
    # 200 trials at 5 %: more than 28 have chance 1e-6 ... binom.ppf gives the exact quantile.
    limit = binom.ppf(1 - 1e-6, 200, 0.05)
    assert all(n <= limit for n in rates.score_level(epsilon, trials=200, per_world=100).values())


@pytest.mark.parametrize(
    "table, cell",
    [
        ("gaussian", "=4"),
        ("response", "=4"),
        ("shares", "mu=3 n=25"),
        ("halved", "=8 n=200"),
        ("shadows", "quarter"),
        ("zoo", "min_max"),
    ],
)
def test_every_table_of_known_rates_can_be_measured_by_the_line(table, cell):
    size = calibrate.Size(scores=10, audits=1, repeats=1)
    _, head, _, *rows, _ = "\n".join(calibrate.lines(table, size, cell)).replace("\n\n", "\n").split("\n")
    assert rows and all(cell in row and row.count("|") == head.count("|") for row in rows)
    assert list(calibrate.lines(table, size, "no such line")) == []


def test_level_check_has_teeth():
    """The broken twin: a bound that picks its best number of guesses after the fact alarms far too often."""
    from dpsynth.audit.stats.one_run import guess, steinke_p

    rng, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        included, scores = rng.random(300) < 0.5, rng.random(300)
        alarms += (
            min(steinke_p(guess(scores, included, k, k, rng), 0.0, 0.0) for k in range(5, 150, 5)) <= 0.05
        )
    assert alarms > binom.ppf(1 - 1e-6, 200, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 8.0])
def test_estimators_keep_their_level_in_5000_trials(epsilon):
    # At exactly 5 %, 290 rejections or more have chance 0.6 %; a true 7.1 % passes with chance 1e-4.
    counts = rates.score_level(epsilon, trials=5000)
    assert all(n < 290 for n in counts.values()), counts


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 8.0])
def test_one_run_tests_keep_their_level_on_randomised_response(epsilon):
    counts = rates.coin_flip_level(epsilon, trials=5000)
    assert all(n < 290 for n in counts.values()), counts


@pytest.mark.slow
@pytest.mark.parametrize("epsilon, m", [(1.0, 1000), (4.0, 500), (8.0, 500)])
def test_sound_steps_alarm_at_most_10_times_in_100(epsilon, m):
    # At 5 %, more than 10 of 100 have chance 1.2 %.
    assert rates.whitebox_rate(epsilon, trials=100, m=m) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("epsilon, m", [(1.0, 1000), (4.0, 500), (8.0, 500)])
def test_halved_noise_is_caught_35_times_in_40(epsilon, m):
    assert rates.whitebox_rate(epsilon, trials=40, m=m, break_plan=halve) >= 35


@pytest.mark.slow
def test_noise_over_1_25_is_caught_35_times_in_40():
    # With m = 1000, 34 of 40: scores are tuned to the planned noise, so power stays below the ideal 0.97.
    assert rates.whitebox_rate(4.0, trials=40, m=2000, break_plan=lambda p: scale_noise(p, 0.8)) >= 35


@pytest.mark.slow
@pytest.mark.parametrize("violation", [v for v in RELEASE if v.certain], ids=lambda v: v.name)
def test_copied_rows_are_caught_20_times_in_20(violation):
    assert sum(violation.detect(True, seed) for seed in range(20)) == 20


@pytest.mark.slow
def test_release_of_nobodys_data_alarms_at_most_10_times_in_100():
    p_values, alarms = rates.release_p_values(trials=100)
    assert alarms <= 10 and kstest(p_values, "uniform").pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("width", [15, 100])
def test_release_audit_meets_its_budget(width):
    """All default attacks, 10,000 synthetic rows, 2,000 targets, a network: below 30 s of processor time."""
    import time

    import pandas as pd

    from dpsynth.audit.configs import ReleaseConfig
    from dpsynth.audit.planted import memorising_model
    from dpsynth.audit.release import audit_release
    from dpsynth.audit.stats.tradeoff import gaussian
    from dpsynth.audit.types import Claim

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, width))

    def draw(num):
        table = pd.DataFrame(rng.normal(size=(num, 5)) @ mix + rng.normal(size=(num, width)))
        table.columns = [f"c{i}" for i in range(width)]
        for i in range(0, width, 3):
            table[f"c{i}"] = np.array(list("abcdef"))[np.clip(table[f"c{i}"] + 3, 0, 5).astype(int)]
        return table

    reference = draw(5000)
    model = memorising_model(draw(1000), reference, seed=0)
    start = time.process_time()
    result = audit_release(
        draw(10_000),
        draw(1000),
        draw(1000),
        reference=reference,
        model=model,
        claim=Claim(epsilon=1.0, f=gaussian(0.27)),
    )
    assert time.process_time() - start < 30
    assert result.params["attacks"] == list(ReleaseConfig().attacks)


@pytest.mark.slow
@pytest.mark.parametrize("representation, gain", [("modes", 0.0), ("bins", 0.1)])
def test_overfitted_tvae_without_privacy_is_caught(tmp_path, representation, gain):
    """1,000 rows, 150 epochs of the published training, no privacy: membership leaves a trace.

    Its weights show more than its rows; in bins, which hide rows in cells, they alone show much.
    """
    from dpsynth import pipeline
    from dpsynth.audit.attacks.model import ReleasedModel
    from dpsynth.audit.planted import population
    from dpsynth.audit.release import ReleaseConfig, audit_release
    from dpsynth.audit.types import Verdict
    from dpsynth.data.schema import Categorical, Continuous, Schema
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.generators.base import load_generator
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    rng = np.random.default_rng(0)
    members, others, reference = population(1000, rng), population(1000, rng), population(2000, rng)
    columns = tuple(
        Continuous(name=c, min=-12.0, max=12.0, decimals=4)
        if members[c].dtype.kind in "iuf"
        else Categorical(name=c, values=tuple("abcdef"))
        for c in members
    )
    recipe = pipeline.Recipe(
        generator="tvae",
        settings=load_generator("tvae").Config(
            size="large", batch_size=100, weight_decay=0.0, representation=representation
        ),
        privacy=PrivacyConfig(name="none", epsilon=None),
        training=TrainingConfig(epochs=150, threads=1),
        num_rows=5000,
    )
    run = pipeline.run(PrivateTable(members, Schema(columns=columns, num_units=1000)), recipe, tmp_path)
    config = ReleaseConfig(planted_repeats=2)
    model = ReleasedModel.of(run.release)
    result = audit_release(
        run.release.synthetic, members, others, reference=reference, model=model, config=config
    )
    assert result.verdict is Verdict.VIOLATION
    found = {f.attack: f.statistics for f in result.findings if f.stratum == "random"}
    weights = found.pop("inversion")
    found.pop("likelihood")
    assert weights["auc_lo"] > 0.5
    assert weights["auc"] > max(statistics["auc"] for statistics in found.values()) + gain
