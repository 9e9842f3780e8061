from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm

from dpsynth.audit.stats import bounds, claim, one_run, roc, tradeoff


def test_delong_matches_the_pairwise_definition():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40) + 2.0, rng.integers(0, 9, 60) * 1.0  # many ties
    wins = (a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])
    oracle = math.sqrt(wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 60)
    seen = roc.auc(a, b)
    assert seen.value == pytest.approx(wins.mean())
    assert seen.stderr == pytest.approx(oracle)


def test_delong_interval_covers_the_binormal_auc():
    rng, truth, misses = np.random.default_rng(1), norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(600):
        interval = roc.auc(rng.normal(1, 1, 80), rng.normal(0, 1, 80)).interval()
        misses += not interval.lower <= truth <= interval.upper
    assert misses <= binom.ppf(1 - 1e-6, 600, 0.065)  # nominal 5 %; DeLong reaches 6.5 % at n = 80


def test_separated_scores_keep_a_positive_error():
    assert roc.auc(np.ones(10), np.zeros(10)).stderr > 0


def test_tpr_needs_ten_false_positives_to_speak():
    rng = np.random.default_rng(2)
    assert not roc.tpr_at_fpr(rng.normal(1, 1, 900), rng.normal(0, 1, 900), 0.01).resolved
    scores_out = rng.normal(0, 1, 4000)
    interval = roc.tpr_at_fpr(rng.normal(1, 1, 4000), scores_out, 0.01)
    truth = norm.sf(np.sort(scores_out)[-41] - 1)
    assert interval.lower < truth < interval.upper


def test_tpr_of_tied_scores_gives_ties_to_the_non_members():
    assert roc.tpr_at_fpr(np.zeros(2000), np.zeros(2000), 0.01).value == 0.0


def test_clopper_pearson_limits_invert_binomial_tails():
    lower, upper = roc.clopper_pearson(7, 30, 0.03)
    assert binom.sf(6, 30, lower) == pytest.approx(0.03)
    assert binom.cdf(7, 30, upper) == pytest.approx(0.03)


def test_max_auditable_epsilon_matches_published_ceilings():
    ceilings = [bounds.max_auditable(n, n) for n in (100, 500, 1000, 5000)]
    np.testing.assert_allclose(ceilings, [3.28, 4.91, 5.60, 7.21], atol=0.01)


def test_flawless_attack_reaches_exactly_the_ceiling():
    flawless = bounds.Errors(true=200, num_in=200, false=0, num_out=200)
    bound = bounds.eps_clopper_pearson(flawless, delta=1e-5)
    assert bound.value == bound.ceiling > 3.9
    gdp = bounds.eps_gdp(flawless, delta=1e-5)
    assert gdp.value == gdp.ceiling and gdp.assumes == "GDP"


def test_posterior_centres_on_the_plug_in_epsilon():
    errors = bounds.Errors(true=4000, num_in=10_000, false=1000, num_out=10_000)
    interval = bounds.eps_posterior(errors, delta=0.0, rng=np.random.default_rng(0))
    assert interval.lower < math.log(4) < interval.upper < math.log(4) + 0.15


def test_share_called_member_is_chosen_without_labels_and_keeps_its_level():
    # 600 trials at 50 %: more than 358 have chance 1e-6. Broken twin: the best share after the fact.
    rng, shares, alarms = np.random.default_rng(3), np.linspace(0.02, 0.98, 97), np.zeros(2)
    for _ in range(600):
        inside, outside = rng.normal(1, 1, 100), rng.normal(0, 1, 100)
        found = [bounds.mu_lower(bounds.errors_at_share(inside, outside, s), alpha=0.5) > 1 for s in shares]
        alarms += [found[48], any(found)]
    assert alarms[0] <= binom.ppf(1 - 1e-6, 600, 0.5) < alarms[1]


def test_best_share_of_equal_normals_is_a_half_and_ties_count_as_non_members():
    rng = np.random.default_rng(3)
    # By symmetry a half; the bound is flat there, within 2 % between 0.35 and 0.65.
    assert 0.35 < bounds.best_share(rng.normal(2, 1, 4000), rng.normal(0, 1, 4000), 500) < 0.65
    errors = bounds.errors_at_share(np.ones(4), np.zeros(6), 0.7)
    assert (errors.true, errors.false) == (4, 0)


def test_steinke_equals_the_binomial_tail_at_delta_zero():
    made = one_run.Guesses(correct=40, made=50, num_canaries=80)
    assert one_run.steinke_p(made, 1.0, 0.0) == pytest.approx(binom.sf(39, 50, math.e / (1 + math.e)))


def test_steinke_delta_term_matches_its_sum_by_hand():
    made = one_run.Guesses(correct=4, made=5, num_canaries=7)
    tail = [sum(math.comb(5, j) * 0.5**5 for j in range(v, 6)) for v in range(6)]
    gain = max((tail[4 - i] - tail[4]) / i for i in range(1, 5))
    assert one_run.steinke_p(made, 0.0, 0.01) == pytest.approx(tail[4] + 2 * 7 * 0.01 * gain)


def test_all_correct_ceilings_match_published_values():
    for n, ceiling in ((100, 3.49), (1000, 5.81)):
        made = one_run.Guesses(correct=n, made=n, num_canaries=n)
        assert one_run.eps_steinke(made, delta=0.0).value == pytest.approx(ceiling, abs=0.01)


def test_f_dp_p_value_is_never_below_brute_force_for_randomised_response():
    # m independent randomised responses are the worst case for pure epsilon; enumerate all outcomes.
    epsilon, m = 0.7, 8
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    f = tradeoff.eps_delta(epsilon, 0.0)
    for correct in range(5, m + 1):
        truth = sum(
            math.prod(right if hit else 1 - right for hit in hits)
            for hits in product((0, 1), repeat=m)
            if sum(hits) >= correct
        )
        made = one_run.Guesses(correct=correct, made=m, num_canaries=m)
        assert truth <= one_run.one_run_p(made, f) * (1 + 1e-6)


def test_f_dp_bound_is_tighter_than_steinke_and_below_the_truth():
    rng = np.random.default_rng(4)
    scores_in, scores_out = tradeoff.gaussian(1.0).ideal_scores(10_000, 10_000, rng)
    scores, included = np.concatenate([scores_in, scores_out]), np.arange(20_000) < 10_000
    made = one_run.guess(scores, included, 1000, 1000, rng)
    steinke, f_dp = one_run.eps_steinke(made, delta=1e-6), one_run.eps_f_dp(made, delta=1e-6)
    assert 1.0 < steinke.value < f_dp.value < tradeoff.gaussian(1.0).epsilon(1e-6)
    assert f_dp.value < f_dp.ceiling and f_dp.assumes == "GDP"


def test_guess_counts_both_sides_and_refuses_more_guesses_than_canaries():
    scores, included = np.arange(10.0), np.arange(10) >= 5
    assert one_run.guess(scores, included, 5, 5, np.random.default_rng(0)).correct == 10
    with pytest.raises(ValueError, match="num_in=6"):
        one_run.guess(scores, included, 6, 5, np.random.default_rng(0))


def test_auc_error_of_an_ideal_attack_matches_simulation():
    f, rng = tradeoff.gaussian(1.2), np.random.default_rng(5)
    values = [roc.auc(*f.ideal_scores(150, 150, rng)).value for _ in range(1500)]
    assert np.std(values) == pytest.approx(claim.auc_stderr(f, 150, 150), rel=0.09)  # 5 SE of a stddev


@pytest.mark.parametrize("method", ["auc", "point", "one_run"])
def test_claim_test_stays_silent_on_the_claim_and_hears_halved_noise(method):
    f, broken, rng = tradeoff.gaussian(1.0), tradeoff.gaussian(2.0), np.random.default_rng(6)
    draw = lambda law: claim.claim_test(*law.ideal_scores(300, 300, rng), f, method=method, rng=rng).p_value  # noqa: E731
    alarms, hits = (sum(draw(law) <= 0.05 for _ in range(120)) for law in (f, broken))
    assert alarms <= binom.ppf(1 - 1e-6, 120, 0.05)
    assert hits >= (115 if method != "one_run" else 60)


def test_normal_power_agrees_with_simulated_power():
    f, other, rng = tradeoff.gaussian(1.0), tradeoff.gaussian(1.3), np.random.default_rng(7)
    quick = claim.power(f, other, 200, 200, rng=rng)
    draw = lambda rng: claim.claim_test(*other.ideal_scores(200, 200, rng), f).p_value  # noqa: E731
    simulated = claim.mc_power(draw, n=600, rng=rng)
    assert abs(quick - simulated) < 0.1  # 5 SE of 600 draws


def test_holm_adjusts_by_rank_and_skips_what_could_not_run():
    adjusted = claim.holm(np.array([0.01, np.nan, 0.04, 0.03]))
    np.testing.assert_allclose(adjusted, [0.03, np.nan, 0.06, 0.06])


def test_permutation_p_matches_full_enumeration():
    from itertools import combinations

    scores, included = np.array([0.1, 0.9, 0.8, 0.4, 0.7, 0.2]), np.array([0, 1, 1, 0, 1, 0], bool)
    total = scores[included].sum() * 0 + np.argsort(np.argsort(scores))[included].sum()
    ranks = np.argsort(np.argsort(scores))
    oracle = np.mean([ranks[list(c)].sum() >= total for c in combinations(range(6), 3)])
    p = claim.permutation_p(scores, included, n=20_000, rng=np.random.default_rng(0))
    assert p == pytest.approx(oracle, abs=0.01)


def test_permutation_p_is_uniform_when_coins_ignore_scores():
    from scipy.stats import kstest

    rng = np.random.default_rng(8)
    ps = [claim.permutation_p(rng.random(500), rng.random(500) < 0.5, rng=rng) for _ in range(400)]
    assert kstest(ps, "uniform").pvalue > 1e-6
