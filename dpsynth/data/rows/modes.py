"""Gaussian modes of a column from its bought histogram, for CTGAN's mode-specific normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

_CONCENTRATION = 1e-3  # of the stick-breaking prior, as in CTGAN
_MIN_WEIGHT = 5e-3  # lighter modes are dropped, as in CTGAN
_FLOOR = 1e-6  # variance floor on the standardised axis, as in scikit-learn


@dataclass(frozen=True, kw_only=True, eq=False)
class Modes:
    """Gaussians on a column's axis, by descending weight.

    Args:
      means, stddevs: in the column's units.
      weights: sum to one.
    """

    means: np.ndarray
    stddevs: np.ndarray
    weights: np.ndarray

    def assign(self, places: np.ndarray) -> np.ndarray:
        """The most likely mode of each value, without chance: a row's code depends on that row alone."""
        best = np.full(len(places), -np.inf)
        modes = np.zeros(len(places), dtype=np.int32)
        for index, (mean, stddev, weight) in enumerate(zip(self.means, self.stddevs, self.weights)):
            score = np.log(weight / stddev) - 0.5 * ((places - mean) / stddev) ** 2
            better = score > best
            best[better], modes[better] = score[better], index
        return modes


def fit_modes(places: np.ndarray, mass: np.ndarray, *, max_modes: int = 10, iterations: int = 100) -> Modes:
    """Fits a one-dimensional Dirichlet-process Gaussian mixture to weighted points by variational EM.

    Formal guarantee: post-processing of the histogram given.
    Edge cases: no mass, or all of it in one place -> one narrow mode.

    Args:
      places: centres of the histogram's cells.
      mass: non-negative rows per cell.
    Source: Blei & Jordan (2006), Variational inference for Dirichlet process mixtures; the priors and the
      threshold are those of Xu et al. (2019), section 4.2, that is scikit-learn's BayesianGaussianMixture.
      Deviation: scikit-learn starts from k-means on rows, this from weighted k-means on cells.
    """
    kept = mass > 0
    x, w = (places[kept], mass[kept]) if kept.any() else (places[:1], np.ones(1))
    centre = np.average(x, weights=w)
    scale = max(np.sqrt(np.average((x - centre) ** 2, weights=w)), 1e-9 * max(1.0, np.abs(x).max()))
    z = (x - centre) / scale
    share = _k_means(z, w, min(max_modes, len(z)))
    for _ in range(iterations):
        weight, mean, variance, log_density = _maximise(z, w, share)
        new = np.exp(log_density - log_density.max(axis=0))
        new /= new.sum(axis=0)
        if np.abs(new - share).max() < 1e-4:
            break
        share = new
    keep = weight > _MIN_WEIGHT
    order = np.argsort(-weight[keep], kind="stable")
    weight, mean, variance = (values[keep][order] for values in (weight, mean, variance))
    return Modes(
        means=mean * scale + centre, stddevs=np.sqrt(variance) * scale, weights=weight / weight.sum()
    )


def _k_means(z: np.ndarray, w: np.ndarray, num: int) -> np.ndarray:
    """Weighted k-means; starts at quantiles of the cube root of the mass, so that tails get modes too."""
    order = np.argsort(z)
    cumulative = np.cumsum(np.cbrt(w[order]))
    starts = np.searchsorted(cumulative, (np.arange(num) + 0.5) / num * cumulative[-1])
    centres = np.unique(z[order][np.minimum(starts, len(z) - 1)])
    for _ in range(30):
        nearest = np.abs(z[None] - centres[:, None]).argmin(axis=0)
        total = np.bincount(nearest, weights=w, minlength=len(centres))
        moment = np.bincount(nearest, weights=w * z, minlength=len(centres))
        moved = np.where(total > 0, moment / np.maximum(total, 1e-300), centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return np.eye(len(centres))[nearest].T


def _maximise(z: np.ndarray, w: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, ...]:
    """One update of the posterior; data are standardised, so the prior mean is 0 and its variance 1."""
    mass = share @ w + 1e-12
    centre = share @ (w * z) / mass
    spread = (share * (z - centre[:, None]) ** 2) @ w / mass + _FLOOR
    strength = 1 + mass  # mean precision and degrees of freedom share their prior of 1
    mean = mass * centre / strength
    variance = (1 + mass * (spread + centre**2 / strength)) / strength
    later = np.append(np.cumsum(mass[:0:-1])[::-1], 0.0)
    a, b = 1 + mass, _CONCENTRATION + later
    log_left, log_rest = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    log_weight = log_left + np.append(0.0, np.cumsum(log_rest)[:-1])
    log_precision = np.log(2) + digamma(0.5 * strength) - np.log(strength)
    quadratic = (z - mean[:, None]) ** 2 / variance[:, None]
    log_normal = 0.5 * (log_precision - np.log(variance) - 1 / strength)[:, None] - 0.5 * quadratic
    left, rest = a / (a + b), np.append(1.0, np.cumprod(b / (a + b))[:-1])
    weight = left * rest / (left * rest).sum()
    return weight, mean, variance, log_weight[:, None] + log_normal
