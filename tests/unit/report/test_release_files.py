from __future__ import annotations

import json

import mpmath
import pytest

from dpsynth.errors import InvalidInput
from dpsynth.report.release_files import (
    budget_shares,
    certificate_table,
    gaussian_noise_multiplier,
    ledger_table,
    read_release,
    stage_shares,
)


@pytest.fixture
def release(make_release, make_table, schema, tmp_path):
    return read_release(make_release(tmp_path / "release", make_table(30, 0), schema))


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-6), (1.0, 1e-5), (8.0, 1e-5), (30.0, 1e-9)])
def test_noise_multiplier_meets_delta_exactly(epsilon, delta):
    """Oracle: Balle and Wang's delta of the Gaussian mechanism, in 50 digits."""
    sigma = gaussian_noise_multiplier(epsilon, delta)
    with mpmath.workdps(50):
        s, e = mpmath.mpf(sigma), mpmath.mpf(epsilon)
        exact = mpmath.ncdf(1 / (2 * s) - e * s) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * s) - e * s)
    assert float(exact) == pytest.approx(delta, rel=1e-6)


def test_shares_of_events_and_stages_add_up_to_one(release):
    shares = budget_shares(release.plan)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["columns/histograms"] / shares["count"] == pytest.approx((40 / 12) ** 2)
    assert list(stage_shares(release.plan)) == ["count", "columns", "training"]


def test_ledger_says_noise_sampling_and_state_of_each_event(release):
    table = ledger_table(release).set_index("event")
    assert table.loc["training", ["rate per step", "steps"]].tolist() == [0.05, 600]
    states = table["state"].tolist()
    assert states == ["charged, finished", "charged, open", "not charged"]


def test_certificate_says_unit_accountants_and_gaps(release):
    statements = dict(certificate_table(release).itertuples(index=False, name=None))
    assert statements["unit of privacy"] == "row" and statements["ε spent, by pld"] == 0.998
    assert statements["not covered (1)"] == "Timing is not protected."
    assert release.claim.startswith("ε = 1 at δ = 1e-05") and release.stamp is None


def test_a_release_without_privacy_is_stamped_and_has_no_shares(make_release, make_table, schema, tmp_path):
    folder = make_release(tmp_path / "release", make_table(30, 0), schema, private=False)
    release = read_release(folder)
    assert release.stamp == "NON-PRIVATE" and "no privacy" in release.claim
    assert budget_shares(release.plan) is None and stage_shares(release.plan) is None
    assert "infinite" in certificate_table(release)["value"].tolist()


def test_a_void_certificate_is_stamped_with_its_reasons(make_release, make_table, schema, tmp_path):
    folder = make_release(tmp_path / "release", make_table(30, 0), schema)
    certificate = json.loads((folder / "certificate.json").read_text())
    certificate |= {"private": False, "claim": "VOID", "void": ["a fixed noise source"]}
    (folder / "certificate.json").write_text(json.dumps(certificate))
    release = read_release(folder)
    assert release.stamp == "VOID"
    assert "a fixed noise source" in certificate_table(release)["value"].tolist()


def test_a_folder_that_is_no_release_is_refused_with_every_missing_file(tmp_path):
    with pytest.raises(InvalidInput) as error:
        read_release(tmp_path)
    assert "certificate.json" in str(error.value) and "synthetic.parquet" in str(error.value)
