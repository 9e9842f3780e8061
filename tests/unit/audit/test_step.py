"""The real DP step under audit: sound as planned, caught when broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpsynth.audit import conformance, invariance
from dpsynth.audit.evidence import epsilon_of, purchase_noise
from dpsynth.audit.planted import ZOO, population
from dpsynth.audit.planted_steps import BREAKS, example_plan, planned_facts, stock_opacus
from dpsynth.audit.smoke import SmokeConfig, smoke
from dpsynth.audit.stats.claim import claim_test, smallest_rejected
from dpsynth.audit.stats.roc import auc
from dpsynth.audit.stats.tradeoff import eps_delta, gaussian
from dpsynth.audit.trace import trace_scores
from dpsynth.audit.types import Claim, Verdict
from dpsynth.audit.units import ESTIMATORS, kept, told_of_training
from dpsynth.audit.whitebox import WhiteboxConfig, audit_step, audit_whitebox, auditable, curve_of
from tests.support.audit_names import COMMON, ONE_RUN, PLOTS, titles

torch.set_num_threads(1)


def test_attacker_sees_unit_signal_and_the_planned_noise():
    plan = replace(example_plan(0.5), sample_rate=1.0, steps=1, expected_batch_size=7.0, max_grad_norm=3.0)
    included = np.arange(2000) % 2 == 0
    scores, log = trace_scores(plan, plan, included)
    seen = scores * 0.5**2 + 0.5  # at rate 1 the score is (x - 1/2) / sigma^2
    assert abs(seen[included].mean() - 1) < 5 * 0.5 / np.sqrt(1000)
    assert abs(seen[~included].std() - 0.5) < 5 * 0.5 / np.sqrt(2000)
    assert log.conformance.max_clipped_norm == pytest.approx(3.0, rel=1e-4)


def test_bounds_at_epsilon_8_reach_their_goals():
    # Medians of five runs: f-DP >= 2.5, AUC within 0.03 of the ceiling; GDP >= 3.0 in four of five.
    runs = [
        audit_whitebox(example_plan(), config=WhiteboxConfig(seed=s)).findings[0].statistics for s in range(5)
    ]
    assert COMMON | ONE_RUN | {"auc_ceiling", "claim_p", "power_sigma_half"} <= runs[0].keys()
    middle = {k: np.median([r[k] for r in runs]) for k in runs[0]}
    assert middle["eps_lo_onerun_fdp"] >= 2.5 and sorted(r["eps_lo_gdp"] for r in runs)[1] >= 3.0
    assert abs(middle["auc"] - middle["auc_ceiling"]) <= 0.03
    assert middle["eps_lo_onerun"] < middle["eps_max_auditable_onerun"] and middle["power_sigma_half"] > 0.99


def test_small_rates_are_audited_at_rate_one():
    plan = replace(example_plan(1.1), sample_rate=0.005, steps=4000)
    claimed, f, broken = auditable(plan, WhiteboxConfig(m=400))
    assert claimed.sample_rate == 1.0 and broken.auc_ceiling() > f.auc_ceiling() + 0.05


def test_step_audited_under_a_claim_of_its_own_is_drawn_against_that_and_told_in_the_plan_s():
    from dpsynth.audit.plots import bounds_plot

    plan = replace(example_plan(2.0), sample_rate=0.01, steps=500)
    result = audit_whitebox(plan, config=WhiteboxConfig(m=400, alpha=1e-4))
    assert titles(result) == PLOTS
    step, whole = result.summary["eps_theory_step"], result.summary["eps_theory"]
    assert result.claim.epsilon == step > 5 * whole and result.summary["eps_lo_best"] < whole * 1.01
    assert result.summary["eps_lo_best"] > 0.4 * whole  # of 12 seeds 0.58 to 0.78 at 1e-4
    (line,) = bounds_plot(result).layout.shapes
    assert line.y0 == step
    assert f"in {result.params['steps']} steps" in result.reason


@pytest.mark.parametrize("epsilon", [1.5, 3.0, 9.0])
def test_bounds_on_the_step_are_told_in_units_of_the_training(epsilon):
    from scipy.optimize import brentq

    of_step = lambda factor: gaussian(2.0 / factor).epsilon(1e-5)  # noqa: E731
    plan = replace(example_plan(2.0), sample_rate=0.01, steps=500)
    of_run = lambda factor, grid: curve_of(plan, factor, grid).epsilon(1e-5)  # noqa: E731
    seen = {"eps_lo_cp": epsilon, "eps_max_auditable": 1e-3, "eps_lo_gdp": 99.0, "eps_max_auditable_gdp": 1e9}
    told = told_of_training(seen, step=of_step, training=of_run)
    factor = brentq(lambda f: of_step(f) - epsilon, 0.3, 9)  # exactly
    assert told["training/eps_lo_cp"] == pytest.approx(of_run(factor, 1e-3), rel=0.02)
    assert told["training/eps_max_auditable_cp"] == 0.0  # eight times the noise would do: nothing is known
    assert (
        told["training/eps_lo_gdp"]
        == told["training/eps_max_auditable_gdp"]
        == pytest.approx(of_run(0.4, 1e-3), rel=0.02)
    )
    assert kept(told)["cp"] == {"theory": of_run(1.0, 1e-3), "lo": told["training/eps_lo_cp"], "most": 0.0}


def test_every_back_end_is_audited_alike():
    plan = replace(example_plan(1.376), backend="opacus_hooks", steps=40)
    result, log = audit_step(plan, config=WhiteboxConfig(m=200, alpha=1e-4))
    assert result.verdict is not Verdict.VIOLATION and log.steps >= 1
    assert result.params["backend"] == "opacus_hooks"


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_broken_step_is_called_a_violation(name):
    plan = example_plan(1.376)
    result = audit_whitebox(plan, actual=BREAKS[name](plan), config=WhiteboxConfig(m=1000, alpha=0.05))
    assert result.verdict is (Verdict.VIOLATION if name != "noise_over_1.25" else result.verdict)


@pytest.mark.parametrize(
    "violation",
    [v for v in ZOO if v.certain and v.detector != "release"],
    ids=lambda v: f"{v.detector}-{v.name}",
)
def test_certain_violations_are_caught_and_their_twins_are_not(violation):
    assert violation.detect(True, 0)
    assert not violation.detect(False, 0)


def test_stock_wiring_is_what_opacus_derives():
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    for num in (999, 1000, 1001):
        model = torch.nn.Linear(1, 1)
        _, optimizer, loader = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            data_loader=DataLoader(TensorDataset(torch.zeros(num, 1)), batch_size=100),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )
        assert stock_opacus(num) == (loader.sample_rate, len(loader), optimizer.expected_batch_size)
    assert planned_facts(999) == planned_facts(1001)


def test_noise_monitor_has_the_stated_false_alarms():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(2000):
        noise = rng.normal(0, 2.0, 200)
        alarms += bool(conformance.check_noise(float(np.mean(noise**2)), 1, 200, 2.0, false_alarm=0.05))
    assert 52 <= alarms <= 150  # 100 expected; 5 SE
    assert conformance.check_noise(0.0, 0, 10, 0.0)


def test_independence_monitor_tells_poisson_from_with_replacement_draws():
    rng = np.random.default_rng(1)
    twice = lambda: rng.integers(0, 500, rng.binomial(500, 0.1))  # noqa: E731
    assert conformance.check_sampler(twice, 500, 0.1)
    fixed = lambda: rng.choice(500, 50, replace=False)  # noqa: E731
    assert conformance.check_sampler(fixed, 500, 0.1)
    poisson = lambda: np.flatnonzero(rng.random(500) < 0.1)  # noqa: E731
    assert not any(conformance.check_sampler(poisson, 500, 0.1) for _ in range(20))


def test_invariance_reports_names_of_what_changed_and_skips_what_was_paid():
    table = population(60, np.random.default_rng(0))
    build = lambda t: {"paid": {"mean": float(t["x5"].mean())}, "free": [1, 2], "n": len(t)}  # noqa: E731
    leaks = invariance.check_invariance(build, table, invariance.worst_neighbours(table), paid=["paid"])
    assert [leak.where for leak in leaks] == ["n"]


def test_extremes_that_were_declared_may_be_stored():
    table = population(60, np.random.default_rng(1))
    top = float(table["x5"].max())
    facts = {"bounds": [top]}
    assert [x.where for x in invariance.check_extremes(facts, table)] == ["x5"]
    assert not invariance.check_extremes(facts, table, declared={"x5": (top,)})


EVENTS = [  # as a ledger lists them; at delta = 1e-5
    {
        "name": "columns/histograms",
        "stage": "columns",
        "noise_multiplier": 2.0,
        "sensitivity": 3.0,
        "event": {"type": "gaussian", "noise_multiplier": 2.0},
    },
    {
        "name": "training",
        "stage": "training",
        "noise_multiplier": 1.376,
        "sensitivity": 1.0,
        "event": {
            "type": "self_composed",
            "count": 100,
            "event": {
                "type": "poisson_sampled",
                "sample_rate": 0.1,
                "event": {"type": "gaussian", "noise_multiplier": 1.376},
            },
        },
    },
]


def test_evidence_comes_close_to_the_claim_and_stays_below_it():
    planned = {"columns/histograms": 1.0, "training": 1.0}
    truth = epsilon_of(EVENTS, planned, 1e-5)
    assert epsilon_of(EVENTS, planned | {"training": 1.2}, 1e-5) < truth
    assert epsilon_of(EVENTS, {"training": 1.0}, 1e-5) == pytest.approx(4.046, abs=0.02)
    assert epsilon_of(EVENTS, {"training": np.inf}, 1e-5) == 0.0
    # Bounds at error 1e-4 each: one of ten above the truth has chance 1e-3 at most.
    shown = [
        smoke(claim=Claim(epsilon=truth), events=EVENTS, plan=example_plan(1.376)).summary["eps_lo_best"]
        for _ in range(3)
    ]
    assert max(shown) <= truth and min(shown) > 0.7 * truth


def test_purchases_with_too_little_noise_are_seen(monkeypatch):
    limits, leaks = purchase_noise(EVENTS, num=2000, alpha=1e-4)
    assert not leaks and 1.0 < limits["columns/histograms"] < 1.15 and "training" not in limits
    from dpsynth.privacy.measuring import answers

    honest = answers.exact_gaussian
    halved = lambda counts, stddev, *, entropy: honest(counts, stddev / 2, entropy=entropy)  # noqa: E731
    monkeypatch.setattr(answers, "exact_gaussian", halved)
    limits, leaks = purchase_noise(EVENTS, num=2000, alpha=1e-4)
    assert [leak.where for leak in leaks] == ["columns/histograms"]
    assert limits["columns/histograms"] < 0.6
    result = smoke(claim=Claim(epsilon=4.77), events=EVENTS)
    assert result.verdict is Verdict.VIOLATION and "columns/histograms" in result.reason


def test_every_estimator_of_a_sound_run_stays_below_claim_and_ceiling_and_halved_noise_does_not():
    plan, broken = example_plan(1.376), BREAKS["noise_halved"](example_plan(1.376))
    found = kept(smoke(claim=Claim(epsilon=4.77), events=EVENTS, plan=plan).summary)
    assert found.keys() == ESTIMATORS.keys()
    for bounds in found.values():
        assert bounds["theory"] == pytest.approx(4.046, abs=0.02)
        assert bounds["lo"] < bounds["theory"] and bounds["lo"] <= bounds["most"]  # at 1e-4
    assert min(found["auc"]["lo"], found["gdp"]["lo"]) > 0.5
    halved = kept(audit_whitebox(plan, actual=broken).summary)
    assert halved["auc"]["lo"] > 5.0 > halved["onerun"]["lo"]  # 13 in truth


def test_noise_limit_inverts_the_claim_test():
    f, rng, planned, misses = gaussian(2.0), np.random.default_rng(0), [], 0
    for _ in range(200):
        a, b = f.ideal_scores(300, 300, rng)
        limit = smallest_rejected(auc(a, b), lambda r: gaussian(2.0 / r), 300, 300)
        test = claim_test(a, b, f)
        assert (limit <= 1.0) == (test.p_value <= 0.05) or abs(test.p_value - 0.05) < 0.01
        planned.append(limit)
        misses += limit < 1.0
    assert misses <= 28 and 1.02 < np.median(planned) < 1.2  # binomial quantile at 1e-6, 200 trials of 5 %
    none = smallest_rejected(auc(rng.normal(size=300), rng.normal(size=300)), lambda r: f, 300, 300)
    assert none == np.inf


def test_smoke_passes_a_sound_run_and_names_what_is_broken(tmp_path):
    plan, f = example_plan(1.376), gaussian(0.925)
    claim = Claim(epsilon=4.0, f=f)
    _, log = trace_scores(plan, plan, np.arange(200) % 2 == 0)
    sound = smoke(claim=claim, plan=plan, log=log, config=SmokeConfig(m=400))
    assert sound.verdict is Verdict.CONSISTENT and sound.summary["conformance/noise_ratio"] == pytest.approx(
        1, abs=0.05
    )
    assert {"audit/conformance/clip_max", "audit/conformance/divisor"} <= sound.metrics().keys()
    _, log = trace_scores(plan, BREAKS["noise_halved"](plan), np.arange(200) % 2 == 0)
    broken = smoke(claim=claim, plan=plan, log=log, config=SmokeConfig(m=400))
    assert broken.verdict is Verdict.VIOLATION and broken.leaks[0].where == "noise"
    table = population(100, np.random.default_rng(0))
    np.save(tmp_path / "model.npy", table.select_dtypes("number").to_numpy())
    stored = smoke(claim=claim, release=tmp_path, train=table)
    assert stored.verdict is Verdict.VIOLATION and stored.leaks[0].where == "model.npy"
    assert smoke().verdict is Verdict.INCONCLUSIVE


def test_auc_of_a_bare_claim_cannot_be_violated_by_halved_noise():
    plan = example_plan()
    scores, _ = trace_scores(plan, BREAKS["noise_halved"](plan), np.arange(600) % 2 == 0)
    seen = auc(scores[::2], scores[1::2]).value
    assert seen < eps_delta(8.0, 1e-5).auc_ceiling()  # only the whole curve sees this
