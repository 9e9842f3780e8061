from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from dpsynth.audit.attacks.features import feature_maps, near_target
from dpsynth.audit.multirun import MultirunConfig, audit_multirun, worst_case
from dpsynth.audit.parallel import mapped
from dpsynth.audit.stats.tradeoff import gaussian
from dpsynth.audit.types import Claim, Verdict
from dpsynth.errors import InvalidInput
from tests.support.audit_names import COMMON, PLOTS, titles

CONFIG = MultirunConfig(n_train=60, n_eval=60, jobs=1, alpha=1e-4)  # the sound twin stands at its limit
CLAIM = Claim(epsilon=4.0, f=gaussian(0.9250))


def noisy_mean(scale):
    """Releases one noisy sum of a column with bounds [0, 1], `scale` times its planned noise."""

    def fit(table, seed):
        rng = np.random.default_rng()  # fresh noise, whatever the seed says
        value = table["c0"].sum() + rng.normal(0, scale / 0.9250)
        return pd.DataFrame({name: np.full(20, value) for name in table.columns})

    return fit


def test_sound_mechanism_passes_and_a_quarter_of_its_noise_is_caught():
    worlds = worst_case(16, columns=1)
    sound = audit_multirun(noisy_mean(1.0), *worlds, claim=CLAIM, config=CONFIG)
    broken = audit_multirun(noisy_mean(0.2), *worlds, claim=CLAIM, config=CONFIG)
    assert sound.verdict is not Verdict.VIOLATION
    assert broken.verdict is Verdict.VIOLATION and broken.metrics()["audit/n_train_runs"] == 240
    assert broken.summary["eps_lo_best"] > sound.summary["eps_lo_best"]


def test_bounds_read_off_the_data_show_at_once():
    """Noise enough for the claim on the mean, and then the exact maximum as a bound."""

    def leaky(table, seed):
        rng = np.random.default_rng()
        return pd.DataFrame({"c0": np.append(rng.random(20) * 0.1, table["c0"].max())})

    result = audit_multirun(leaky, *worst_case(16, columns=1), claim=CLAIM, config=CONFIG)
    assert result.verdict is Verdict.VIOLATION
    statistics = result.findings[0].statistics
    assert statistics["auc"] > 0.99 and 1.5 < statistics["eps_lo_cp"] <= statistics["eps_max_auditable"]


def test_processes_give_the_same_kind_of_answer():
    config = MultirunConfig(n_train=20, n_eval=20, jobs=2)
    result = audit_multirun(noisy_mean(0.05), *worst_case(8, columns=1), claim=CLAIM, config=config)
    assert result.verdict is Verdict.VIOLATION


@pytest.mark.slow
def test_ray_tasks_give_the_same_kind_of_answer_and_stop_their_ray():
    ray = pytest.importorskip("ray")
    config = MultirunConfig(n_train=20, n_eval=20, jobs=1, backend="ray")
    result = audit_multirun(noisy_mean(0.05), *worst_case(8, columns=1), claim=CLAIM, config=config)
    assert result.verdict is Verdict.VIOLATION and result.params["backend"] == "ray"
    assert not ray.is_initialized()


def test_backends_keep_the_order_of_arguments_and_a_missing_ray_is_named(monkeypatch):
    assert mapped(divmod, [(7, 2), (9, 4)], backend="joblib", jobs=1) == [(3, 1), (2, 1)]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInput, match=r"not installed. pip install 'dpsynth\[ray\]'"):
        mapped(divmod, [(7, 2)], backend="ray", jobs=1)


def test_every_statistic_of_the_game_has_its_name():
    result = audit_multirun(noisy_mean(1.0), *worst_case(8, columns=1), claim=CLAIM, config=CONFIG)
    (finding,) = result.findings
    assert COMMON | {"auc_ceiling", "claim_p", "power_sigma_half"} <= finding.statistics.keys()
    assert {"m", "k", "alpha", "delta", "n_tests", "adjacency", "f_family"} <= result.params.keys()
    assert titles(result) == PLOTS
    power = dict(zip(result.curves["power"]["x"], result.curves["power"]["power"]))
    assert power[2.0] == pytest.approx(result.power, abs=0.02) and power[1.0] <= 1e-4 < power[4.0]


def test_features_see_size_extremes_and_rows_near_the_target():
    target = pd.DataFrame({"x": [10.0], "k": ["rare"]})
    table = pd.DataFrame({"x": [0.0, 9.0, 12.0], "k": ["a", "rare", "a"]})
    facts = near_target(table, target)
    assert facts[0] == 3 and 12.0 in facts and facts[-1] == 1


def test_too_few_runs_or_no_claim_are_refused():
    worlds = worst_case(8, columns=1)
    with pytest.raises(InvalidInput, match="n_train: 5 is not a whole number of at least 20"):
        audit_multirun(noisy_mean(1.0), *worlds, claim=CLAIM, config=MultirunConfig(n_train=5))
    with pytest.raises(InvalidInput, match="claim"):
        audit_multirun(noisy_mean(1.0), *worlds, claim=Claim(), config=CONFIG)


def tilted(signal):
    """Two columns with fixed histograms; with the unit, they agree in `signal` more of the rows."""

    def fit(table, seed):
        rng = np.random.default_rng(seed)
        agree = 100 + (signal if len(table) == 9 else 0)
        low = rng.permutation(np.arange(200) % 2)
        high = low.copy()
        for value in (0, 1):  # as many flipped each way, so that both columns keep their shares
            rows = np.flatnonzero(low == value)
            high[rng.choice(rows, (200 - agree) // 2, replace=False)] = 1 - value
        return pd.DataFrame({"c0": low.astype(float), "c1": high.astype(float)})

    return fit


def test_a_leak_in_the_dependence_of_columns_alone_is_found_by_the_map_that_shows_it():
    config = MultirunConfig(n_train=30, n_eval=40, jobs=1)
    worlds = worst_case(8, columns=2)
    found = audit_multirun(tilted(20), *worlds, claim=CLAIM, config=config)
    assert found.verdict is Verdict.VIOLATION
    # Judged by rows near the target that differ only by chance, the moments alone would say nothing.
    assert found.params["features"] in ("near", "correlation", "queries", "all")
    twin = audit_multirun(tilted(0), *worlds, claim=CLAIM, config=config)
    assert twin.verdict is not Verdict.VIOLATION


def test_feature_maps_keep_their_length_and_see_what_they_name():
    rng = np.random.default_rng(0)
    known = pd.DataFrame({"n": rng.normal(size=50), "c": rng.choice(list("xy"), 50)})
    odd = pd.DataFrame({"n": [np.nan, 99.0, -99.0], "c": ["x", None, "z"]})
    first, second = (feature_maps(t, known.iloc[-1:], known) for t in (known, odd))
    assert [v.shape for v in first.values()] == [v.shape for v in second.values()]
    assert all(np.isfinite(v).all() for v in (*first.values(), *second.values()))
    assert first["histogram"].sum() == pytest.approx(2.0)
    linked = known.assign(c=np.where(known["n"] > 0, "x", "y"))
    assert abs(feature_maps(linked, known.iloc[-1:], known)["correlation"][0]) > 0.6
    assert first["queries"][0] >= 1 and first["queries"].max() <= 50
