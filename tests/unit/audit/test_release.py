from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dpsynth.audit import page
from dpsynth.audit.attacks.shadow import lira, pooled, rmia
from dpsynth.audit.canaries import CanaryPlan
from dpsynth.audit.planted import copy_members, memorising_model, population
from dpsynth.audit.release import ReleaseConfig, audit_release
from dpsynth.audit.stats import roc
from dpsynth.audit.stats.tradeoff import gaussian
from dpsynth.audit.types import Claim, Scores, Verdict, decide, worst
from dpsynth.errors import InvalidInput
from tests.support.audit_names import COMMON, ONE_RUN, PLOTS, titles

QUICK = ReleaseConfig(attacks=("copy", "nearest_record", "domias"), planted_repeats=4)
SHADOWED = ("lira", "rmia", "shadow_features")
ONE = Claim(epsilon=1.0, f=gaussian(0.2684))


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    return [population(n, rng) for n in (400, 400, 1000, 800)]


def audit(tables, synthetic=None, **changes):
    members, others, own, reference = tables
    changes.setdefault("config", QUICK)
    return audit_release(
        own if synthetic is None else synthetic, members, others, reference=reference, **changes
    )


def test_table_without_members_is_consistent_with_power_against_copies(tables):
    result = audit(tables, claim=ONE)
    assert result.verdict is Verdict.CONSISTENT and result.power >= 0.8
    assert "copied" in result.reason and result.p_value > 0.05


def test_copied_members_violate_epsilon_one_and_the_claim_of_no_trace(tables):
    planted = copy_members(tables[2], tables[0], 0.25, np.random.default_rng(1))
    for claim in (ONE, Claim()):
        assert audit(tables, planted, claim=claim).verdict is Verdict.VIOLATION


def test_weak_audit_of_a_weak_claim_is_inconclusive(tables):
    assert audit(tables, claim=Claim(epsilon=8.0, f=gaussian(1.6566))).verdict is Verdict.INCONCLUSIVE


def test_members_from_another_population_make_the_audit_invalid(tables):
    other = tables[1].assign(x5=tables[1]["x5"] + 3.0)
    result = audit([tables[0], other, *tables[2:]])
    assert result.verdict is Verdict.INVALID and result.summary["blind_auc_lo"] > 0.5


def test_low_false_positive_rates_are_unresolvable_with_few_targets(tables):
    result = audit(tables)
    assert all(np.isnan(f.statistics["tpr_at_fpr_0p1pct"]) for f in result.findings)
    assert not any("0p1pct" in name for name in result.metrics())


def test_metrics_follow_the_naming_scheme_and_json_is_strict(tables, tmp_path):
    result = audit(tables, claim=ONE)
    metrics = result.metrics()
    for name in (
        "audit/data_only/copy/random/auc",
        "audit/data_ref/domias/random/eps_lo_onerun_fdp",
        "audit/data_ref/domias/random/claim_p",
        "audit/claim_p_holm",
        "audit/blind_auc_lo",
        "audit/eps_theory",
        "audit/gap",
        "audit/risk/singling_out",
        "audit/risk/linkability_lo",
        "audit/risk/attribute_x7_hi",
        "audit/seconds",
    ):
        assert np.isfinite(metrics[name]), name
    for finding in result.findings:
        assert COMMON | ONE_RUN | {"auc_ceiling", "claim_p"} <= finding.statistics.keys()
    assert {"m", "k", "alpha", "delta", "n_tests", "adjacency", "f_family"} <= result.params.keys()
    assert titles(result) == PLOTS and "the strongest of" in result.curves["shown"]
    power = dict(zip(result.curves["power"]["x"], result.curves["power"]["power"]))
    assert power[0.1] == result.power and power[0.01] < power[0.2] == 1.0
    result.dump(tmp_path / "audit.json")
    read = json.loads((tmp_path / "audit.json").read_text())
    assert read["verdict"] == "CONSISTENT" and read["visibility"] == "internal"
    text = page.render([result])
    assert "CONSISTENT" in text and "INTERNAL" in text and "unresolvable" in text and "plotly" in text


def test_constructed_canaries_form_their_own_stratum(tables):
    members, others, synthetic, reference = tables
    made_up = members.iloc[:60].assign(x5=50.0)
    one = np.repeat(["random", "constructed"], [400, 30])
    result = audit_release(
        synthetic,
        pd.concat([members, made_up[:30]]),
        pd.concat([others, made_up[30:]]),
        reference=reference,
        strata=np.r_[one, one],
        config=QUICK,
    )
    assert {f.stratum for f in result.findings} == {"random", "vulnerable", "constructed"}
    assert result.verdict is not Verdict.INVALID  # the blind control leaves canaries out


def test_bad_tables_are_refused_with_every_problem(tables):
    members, others, synthetic, reference = tables
    with pytest.raises(InvalidInput) as error:
        audit_release(
            synthetic.iloc[:0],
            members.drop(columns="x1"),
            others.iloc[:10],
            config=ReleaseConfig(attacks=("x",)),
        )
    text = str(error.value)
    with pytest.raises(InvalidInput, match="no column 'income'"):
        audit(tables, config=ReleaseConfig(secrets=("income",)))
    assert all(part in text for part in ("no rows", "Lacks columns ['x1']", "fewer than 50", "audit.attacks"))


def test_reference_that_holds_members_is_refused(tables):
    members, others, synthetic, _ = tables
    with pytest.raises(InvalidInput, match="members and reference: Share rows"):
        audit_release(
            synthetic, members, others, reference=pd.concat([others.iloc[:300], members.iloc[:200]])
        )


def test_coarse_tables_may_share_rows_by_nature():
    rng = np.random.default_rng(2)
    tables = [
        pd.DataFrame({"a": rng.integers(0, 4, n), "b": rng.integers(0, 3, n)}) for n in (300, 300, 500, 400)
    ]
    assert audit(tables).verdict in (Verdict.CONSISTENT, Verdict.INCONCLUSIVE)


def test_too_few_targets_for_the_asked_rate_are_refused(tables):
    with pytest.raises(InvalidInput, match="needs 10000 non-members"):
        audit(tables, config=ReleaseConfig(require_fpr=0.001))


def test_verdicts_need_power_and_rank_by_severity():
    assert decide(0.5, 0.79) is Verdict.INCONCLUSIVE and decide(0.5, 0.8) is Verdict.CONSISTENT
    assert decide(0.01, 0.0) is Verdict.VIOLATION and decide(0.01, 1.0, valid=False) is Verdict.INVALID
    assert worst(Verdict.CONSISTENT, Verdict.INVALID, Verdict.VIOLATION) is Verdict.VIOLATION
    assert [v.exit_code for v in Verdict] == [4, 0, 3, 5]


def test_coins_of_a_share_of_all_units_do_not_depend_on_how_many_there_are():
    plans = [CanaryPlan.flip(n, 0.3, rng=np.random.default_rng(0)) for n in (20_000, 20_001)]
    sides = [set(p.ids[~p.included].tolist()) for p in plans]
    assert sides[1] - {20_000} == sides[0]
    # 5 sigma of binomials: 20,000 at 0.3, and half of those.
    assert abs(len(plans[0].ids) - 6000) < 5 * 65 and abs(plans[0].included.mean() - 0.5) < 5 * 0.5 / 75
    drawn = [CanaryPlan.draw(range(n), 6000, rng=np.random.default_rng(0)) for n in (20_000, 20_001)]
    assert len(set(drawn[0].ids.tolist()) ^ set(drawn[1].ids.tolist())) > 2  # the twin: so many of all


def test_shadows_tell_what_a_score_looks_like_in_both_worlds():
    rng = np.random.default_rng(0)
    level, inside = rng.normal(0, 3, 400), np.arange(400) < 200
    included = rng.random((32, 400)) < 0.5
    scores = level + 1.5 * included + rng.normal(size=(32, 400))
    observed = level + 1.5 * inside + rng.normal(size=400)
    told = lira(observed, scores, included)
    shuffled = lira(observed, scores, rng.permuted(included, axis=0))  # the twin: worlds mixed up
    area = [roc.auc(s[inside], s[~inside]).value for s in (observed, told, shuffled)]
    # By normals: 0.64, 0.84, and at best the first again; standard errors 0.03, 0.02.
    assert area[0] < 0.75 and area[1] > 0.75 and area[2] < 0.75


def test_rmia_and_pooled_features_tell_worlds_apart_only_by_the_coins():
    rng = np.random.default_rng(1)
    inside, included = np.arange(400) < 200, rng.random((32, 400)) < 0.5
    level, strangers = rng.normal(0, 3, 600), np.zeros((33, 200), bool)
    trained = np.concatenate([np.r_[included, inside[None]], strangers], axis=1)
    scores = level + 1.5 * trained + rng.normal(size=(33, 600))
    told = rmia(scores[-1], scores[:-1], 400)
    blind = rmia(level + rng.normal(size=600), scores[:-1], 400)  # the twin: a release of nobody's rows
    features = np.stack([scores[:, :400], rng.normal(size=(33, 400))], axis=2)
    learned = pooled(features[-1], features[:-1], included, 0)
    nobody = np.stack([level[:400] + rng.normal(size=400), rng.normal(size=400)], axis=1)
    untaught = pooled(nobody, features[:-1], included, 0)
    area = [roc.auc(s[inside], s[~inside]).value for s in (told, learned, blind, untaught)]
    # Ideally 0.84; by the level alone 0.64; standard error 0.03.
    assert min(area[:2]) > 0.75 and abs(area[2] - 0.5) < 0.15 and abs(area[3] - 0.5) < 0.15
    assert 0 <= told.min() and told.max() <= 1.01


def test_attacks_whose_needs_are_not_met_are_left_out_and_refused_when_none_is_left(tables):
    members, others, synthetic, _ = tables
    config = ReleaseConfig(attacks=("copy", "queries", "inversion"), planted_repeats=1)
    result = audit_release(synthetic, members, others, config=config)
    assert result.params["attacks"] == ["copy"]
    only = ReleaseConfig(attacks=("inversion", "domias"))
    with pytest.raises(InvalidInput, match="without a reference and a release with a network"):
        audit_release(synthetic, members, others, config=only)


def test_weights_are_attacked_when_they_are_given_and_say_so(tables):
    config = ReleaseConfig(attacks=("copy", "inversion"), planted_repeats=1)
    model = memorising_model(tables[0], tables[3], seed=0)
    result = audit(tables, config=config, model=model)
    assert result.verdict is Verdict.VIOLATION and result.params["threat_model"] == "data_only, model"
    assert result.metrics()["audit/model/inversion/random/auc"] > 0.95
    strangers = memorising_model(population(400, np.random.default_rng(9)), tables[3], seed=0)
    assert audit(tables, config=config, model=strangers).verdict is not Verdict.VIOLATION


def test_shadows_strengthen_the_attack_on_a_method_that_blurs_rows(tables):
    def blur(table, seed):
        rng = np.random.default_rng([seed, 7])  # of noise that protects nobody
        rows = table.iloc[rng.integers(0, len(table), 800)].reset_index(drop=True)
        return rows.assign(**{c: rows[c] + rng.normal(0, 0.6, 800) for c in rows.select_dtypes("number")})

    members, others, synthetic, reference = (t.iloc[:200] for t in tables)
    config = ReleaseConfig(attacks=("nearest_record",), shadows=8, jobs=1, planted_repeats=1)

    def attacked(release):
        result = audit([members, others, release, reference], config=config, fit_sample=blur)
        return {f.attack: f.statistics for f in result.findings if f.stratum == "random"}, result.verdict

    found, verdict = attacked(blur(pd.concat([members, reference]), 99))
    assert min(found[name]["auc_lo"] for name in SHADOWED) > 0.5 and verdict is Verdict.VIOLATION
    found, verdict = attacked(blur(synthetic, 99))
    for name in SHADOWED:
        assert 0.35 < found[name]["auc"] < 0.65  # nobody's rows: 5 standard errors around a half
    with pytest.raises(InvalidInput, match="audit.shadows"):
        audit([members, others, synthetic, reference], config=config)
    model = memorising_model(members, reference, seed=0)
    with pytest.raises(InvalidInput, match="Return the whole Release"):
        audit([members, others, synthetic, reference], config=config, fit_sample=blur, model=model)


def test_canary_coins_are_fair_committed_and_joined_by_id(tmp_path):
    plan = CanaryPlan.draw(range(10_000), 5000, rng=np.random.default_rng(0))
    assert abs(plan.included.mean() - 0.5) < 5 * 0.5 / np.sqrt(5000)
    plan.dump(tmp_path / "plan.json")
    assert CanaryPlan.load(tmp_path / "plan.json").digest == plan.digest
    flipped = CanaryPlan(ids=plan.ids, included=~plan.included, stratum=plan.stratum, salt=plan.salt)
    assert flipped.digest != plan.digest
    table = pd.DataFrame({"x": range(10_000)})
    train, held = plan.split(table)
    assert len(held) == (~plan.included).sum() and len(train) + len(held) == 10_000
    inside, outside = plan.targets(table)
    assert len(inside) == plan.included.sum() and set(outside.index) == set(held.index)
    order = np.random.default_rng(1).permutation(5000)
    shuffled = Scores(ids=plan.ids[order], value=plan.included[order].astype(float))
    a, b = shuffled.by_membership(plan.ids, plan.included)
    assert a.min() == 1 and b.max() == 0
    with pytest.raises(ValueError, match="one score per canary"):
        Scores(ids=plan.ids[:9], value=np.zeros(9)).by_membership(plan.ids, plan.included)
    with pytest.raises(InvalidInput, match="audit.m"):
        CanaryPlan.draw(range(3), 4, rng=np.random.default_rng(0))


def test_small_tables_may_hold_equal_people_and_may_not_hold_the_same():
    """Of 2**20 possible rows 400 times 60,000 meet: 5.6 % of the few have a twin among the many."""
    from dpsynth.audit.inputs import _overlaps

    random = np.random.default_rng(0)
    many, few = (pd.DataFrame({"x": random.integers(0, 2**20, num)}) for num in (60_000, 400))
    assert _overlaps({"members": few, "reference": many}, ["x"]) == []
    planted = pd.concat([few[:320], many[:80]], ignore_index=True)
    assert _overlaps({"members": planted, "reference": many}, ["x"]) == [("members", "reference")]
