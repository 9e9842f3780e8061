from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from dpsynth.audit.stats import tradeoff
from dpsynth.audit.stats.roc import auc


@pytest.fixture(scope="module")
def composed():
    return tradeoff.subsampled_gaussian(0.937, 0.1, 100)


def test_one_full_batch_step_is_the_gaussian_curve():
    curve, closed = tradeoff.subsampled_gaussian(1.3, 1.0, 1), tradeoff.gaussian(1 / 1.3)
    alpha = np.linspace(0.001, 0.999, 200)
    np.testing.assert_allclose(curve.beta(alpha), closed.beta(alpha), atol=1e-4)
    assert curve.auc_ceiling() == pytest.approx(closed.auc_ceiling(), abs=1e-4)
    assert curve.epsilon(1e-5) == pytest.approx(closed.epsilon(1e-5), rel=1e-3)


def test_auc_ceiling_of_one_subsampled_step_matches_quadrature():
    q, sigma = 0.3, 0.8
    density_in = lambda x: (1 - q) * norm.pdf(x, 0, sigma) + q * norm.pdf(x, 1, sigma)  # noqa: E731
    # The likelihood ratio grows with x, so the AUC is P(X_in > X_out).
    oracle, _ = integrate.quad(lambda x: density_in(x) * norm.cdf(x, 0, sigma), -10, 10)
    assert tradeoff.subsampled_gaussian(sigma, q, 1).auc_ceiling() == pytest.approx(oracle, abs=1e-4)


def test_ceiling_of_composition_matches_simulated_likelihood_ratios(composed):
    rng = np.random.default_rng(0)
    q, sigma, n = 0.1, 0.937, 4000
    noise = rng.normal(0, sigma, (2 * n, 100))
    noise[:n] += rng.random((n, 100)) < q
    scores = np.log(1 - q + q * np.exp((noise - 0.5) / sigma**2)).sum(axis=1)
    seen = auc(scores[:n], scores[n:])
    assert abs(seen.value - composed.auc_ceiling()) < 5 * seen.stderr  # 5 SE: false alarm 6e-7
    assert abs(seen.value - tradeoff.gaussian(2.0).auc_ceiling()) > 5 * seen.stderr


def test_composed_epsilon_agrees_with_the_accountant(composed):
    import dp_accounting as dpa

    accountant = dpa.pld.PLDAccountant()
    accountant.compose(dpa.PoissonSampledDpEvent(0.1, dpa.GaussianDpEvent(0.937)), 100)
    assert composed.epsilon(1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)


def test_eps_delta_curve_returns_its_epsilon_and_meets_its_definition():
    curve = tradeoff.eps_delta(1.5, 0.01)
    assert curve.epsilon(0.01) == pytest.approx(1.5)
    alpha = np.linspace(0, 1, 101)
    oracle = np.maximum.reduce(
        [np.zeros(101), 1 - 0.01 - np.exp(1.5) * alpha, np.exp(-1.5) * (1 - 0.01 - alpha)]
    )
    np.testing.assert_allclose(curve.beta(alpha), oracle, atol=1e-12)


def test_bare_claim_excuses_more_than_the_ledger(composed):
    assert tradeoff.eps_delta(composed.epsilon(1e-5), 1e-5).auc_ceiling() > 0.99 > composed.auc_ceiling()


@pytest.mark.parametrize("f", [tradeoff.gaussian(1.7), tradeoff.eps_delta(2.0, 0.05)])
def test_alpha_inverts_beta(f):
    alpha = np.linspace(0.01, 0.9, 50)
    keep = f.beta(alpha) > 1e-9
    np.testing.assert_allclose(f.alpha(f.beta(alpha))[keep], alpha[keep], atol=1e-9)


def test_gaussian_epsilon_inverts_the_hockey_stick():
    f = tradeoff.gaussian(1.0)
    assert f.epsilon(1e-6) == pytest.approx(4.89, abs=0.01)  # published value for mu = 1
    assert f.delta(f.epsilon(1e-6)) == pytest.approx(1e-6, rel=1e-6)
    assert tradeoff.gaussian(0.0).epsilon(1e-6) == 0.0


def test_ideal_scores_reach_the_ceiling_and_do_not_pass_it(composed):
    rng = np.random.default_rng(1)
    seen = auc(*composed.ideal_scores(5000, 5000, rng))
    assert abs(seen.value - composed.auc_ceiling()) < 5 * seen.stderr


def test_events_compose_like_one_pld_and_unknown_events_are_refused(composed):
    import dp_accounting as dpa

    step = dpa.PoissonSampledDpEvent(0.1, dpa.GaussianDpEvent(0.937))
    curve = tradeoff.from_events([dpa.GaussianDpEvent(20.0), dpa.SelfComposedDpEvent(step, 100)])
    assert composed.epsilon(1e-5) < curve.epsilon(1e-5) < composed.epsilon(1e-5) + 0.2
    assert tradeoff.from_events([dpa.GaussianDpEvent(2.0)] * 4).epsilon(1e-5) == pytest.approx(
        tradeoff.gaussian(1.0).epsilon(1e-5), rel=1e-3
    )
    assert tradeoff.from_events([dpa.NonPrivateDpEvent()]).auc_ceiling() == 1.0
    assert tradeoff.from_events([]).auc_ceiling() == 0.5
    with pytest.raises(ValueError, match="ZCDp"):
        tradeoff.from_events([dpa.ZCDpEvent(1.0)])


def test_failure_event_excuses_that_much_certainty():
    from dpsynth.privacy.accounting.accountants import FailureDpEvent

    curve = tradeoff.from_events([FailureDpEvent(0.02)])
    np.testing.assert_allclose(curve.beta([0.0, 0.5]), [0.98, 0.48], atol=1e-12)
    assert curve.epsilon(0.02) == pytest.approx(0.0, abs=1e-9)
