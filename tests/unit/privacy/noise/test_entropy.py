"""Noise and coins: exact where they can be, from the operating system, in one process."""

from __future__ import annotations

import copy
import math
import os
import pickle

import mpmath
import numpy as np
import pytest
import torch

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.noise.entropy import (
    LATTICE_BITS,
    AesEntropy,
    Entropy,
    FixedEntropy,
    TorchEntropy,
    make_entropy,
)
from dpsynth.privacy.noise.mechanisms import exact_gaussian

SOURCES = [AesEntropy, TorchEntropy]


@pytest.mark.parametrize("source", SOURCES)
def test_two_streams_never_agree(source):
    draws = [source().normal_(torch.empty(64), 1.0) for _ in range(2)]
    assert not torch.equal(*draws)
    assert not np.array_equal(source().uniform(8), source().uniform(8))


@pytest.mark.parametrize("source", SOURCES)
def test_seeds_of_the_project_do_not_reach_the_noise(source):
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        draws.append(source().normal_(torch.empty(64), 1.0))
    assert not torch.equal(*draws)


def test_fixed_noise_repeats_and_voids():
    """Broken twin of the two tests above: this source fails them, and says that it voids the claim."""
    draws = [FixedEntropy().normal_(torch.empty(64), 1.0) for _ in range(2)]
    assert torch.equal(*draws)
    assert FixedEntropy.voids and not AesEntropy.voids and not TorchEntropy.voids
    with pytest.raises(ValueError, match="noise"):
        make_entropy("fixed")


@pytest.mark.parametrize("source", [*SOURCES, FixedEntropy])
def test_sources_are_not_pickled_or_copied(source):
    for leave in (pickle.dumps, copy.deepcopy):
        with pytest.raises(GuaranteeVoid):
            leave(source())


@pytest.mark.parametrize("source", SOURCES)
def test_a_forked_process_draws_other_noise(source):
    entropy = source()
    entropy.uniform(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, entropy.uniform(4).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 32) != entropy.uniform(4).tobytes()
    os.close(read), os.close(write)


@pytest.mark.parametrize("source", [*SOURCES, FixedEntropy])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_fills_in_place_with_the_stated_deviation(source, dtype):
    """n = 4e4: a wrong deviation of 5 % is 10 standard errors away; false alarm below 1e-11."""
    out = torch.full((200, 200), 7.0, dtype=dtype)
    assert source().normal_(out, 3.0) is out
    assert abs(out.std().item() / 3.0 - 1.0) < 7 / math.sqrt(2 * out.numel())
    assert abs(out.mean().item()) < 7 * 3.0 / math.sqrt(out.numel())
    assert torch.equal(source().normal_(out, 0.0), torch.zeros_like(out))


@pytest.mark.parametrize("source", SOURCES)
def test_choice_is_a_set_and_coins_are_in_range(source):
    entropy = source()
    for num, size in [(10, 10), (10, 0), (1_000_000, 50)]:
        chosen = entropy.choice(num, size)
        assert len(set(chosen.tolist())) == size
        assert all(0 <= k < num for k in chosen)
    assert 0 <= entropy.binomial(5, 0.5) <= 5
    assert entropy.geometric(1.0, 3).tolist() == [1, 1, 1]


def test_noise_is_drawn_on_a_fine_lattice():
    seen = {}

    class Spy(FixedEntropy):
        def lattice_gaussian(self, values, scale):
            seen.update(values=values, scale=scale)
            return super().lattice_gaussian(values, scale)

    for stddev in (0.3, 1.0, 20.44, 1e9):
        noisy = exact_gaussian(np.array([5, -2]), stddev, entropy=Spy())
        assert seen["scale"] >= 2**LATTICE_BITS
        bits = round(math.log2(seen["scale"] / stddev))
        assert np.array_equal(seen["values"], np.array([5, -2]) << bits)
        assert np.array_equal(noisy * 2.0**bits, np.rint(noisy * 2.0**bits))


def test_the_lattice_law_is_within_the_stated_slack_of_a_rounded_gaussian():
    """Log ratio of the discrete Gaussian to the rounded continuous one, in 60 digits, up to 12 deviations.

    privacy/README.md bounds it by (1 + t^2) / (8 s^2) at t deviations; the project uses s = 2**24.
    """
    with mpmath.workdps(60):
        for s in (8, 64, 2**LATTICE_BITS):
            s = mpmath.mpf(s)
            normaliser = s * mpmath.sqrt(2 * mpmath.pi)  # the lattice sum differs by exp(-2 pi^2 s^2)
            for t in (0, 1, 4, 12):
                z = mpmath.nint(t * s)
                discrete = mpmath.exp(-(z**2) / (2 * s**2)) / normaliser
                rounded = mpmath.ncdf((z + 0.5) / s) - mpmath.ncdf((z - 0.5) / s)
                if t == 12:
                    rounded = mpmath.ncdf(-(z - 0.5) / s) - mpmath.ncdf(-(z + 0.5) / s)
                gap = abs(mpmath.log(rounded / discrete))
                assert gap <= (1 + t**2) / (8 * s**2)
        assert gap > 0


def test_whole_number_noise_would_break_that_bound():
    """Broken twin: a lattice of whole numbers under noise of deviation 0.5 is no rounded Gaussian."""
    with mpmath.workdps(30):
        discrete = 1 / mpmath.nsum(lambda z: mpmath.exp(-2 * z**2), [-mpmath.inf, mpmath.inf])
        rounded = mpmath.ncdf(1) - mpmath.ncdf(-1)
        assert abs(mpmath.log(rounded / discrete)) > 1e-2


def test_counts_never_overflow_the_lattice():
    huge = np.array([2**62, -(2**62)])
    noisy = exact_gaussian(huge, 1.0, entropy=FixedEntropy())
    assert noisy[0] > 2**30 and noisy[1] < -(2**30)


@pytest.mark.parametrize("stddev", [-1.0, math.nan, math.inf, 1e-9])
def test_impossible_noise_is_refused(stddev):
    with pytest.raises(ValueError, match="noise_stddev"):
        exact_gaussian(np.array([1]), stddev, entropy=AesEntropy())


def test_only_whole_numbers_get_exact_noise():
    with pytest.raises(TypeError, match="integer"):
        exact_gaussian(np.array([0.5]), 1.0, entropy=AesEntropy())
    assert exact_gaussian(np.array([3]), 0.0, entropy=AesEntropy()).tolist() == [3.0]
    assert exact_gaussian(np.array([], dtype=int), 1.0, entropy=AesEntropy()).size == 0


def test_the_interface_is_complete():
    assert Entropy.__abstractmethods__ == {"normal_", "uniform", "binomial", "choice"}
