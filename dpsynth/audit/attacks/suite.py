"""The attacks. Each maps a world to one score per target; higher means that it looks like a member.

Distances to synthetic rows are scores here and nothing else: a small one is no violation and a large one
no protection (Annamalai et al. 2023; Yao et al. 2025). Whether scores tell members from non-members is
decided by the tests in `dpsynth.audit.release`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpsynth.audit.attacks.queries import answers, draw_queries
from dpsynth.audit.attacks.space import World, as_float, is_numeric, log_density
from dpsynth.audit.canaries import row_hashes
from dpsynth.audit.types import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A named scoring function and what it needs."""

    name: str
    threat_model: ThreatModel
    score: Callable[[World, np.random.Generator], np.ndarray]

    def lacks(self, *, reference: bool, model: bool) -> str | None:
        """Names what this attack needs and does not get, or None."""
        if self.threat_model is ThreatModel.DATA_REF and not reference:
            return "a reference"
        if self.threat_model is ThreatModel.MODEL and not model:
            return "a release with a network"
        return None


def copy(world: World, rng: np.random.Generator) -> np.ndarray:
    """Number of exact copies of the target in the synthetic table."""
    hashes, counts = np.unique(row_hashes(world.tables[1]), return_counts=True)
    mine = row_hashes(world.tables[0])
    at = np.minimum(np.searchsorted(hashes, mine), len(hashes) - 1)
    return np.where(hashes[at] == mine, counts[at], 0).astype(float)


def nearest_record(world: World, rng: np.random.Generator) -> np.ndarray:
    """Minus the distance to the closest record (DCR)."""
    return -world.to_synthetic[0][:, 0].astype(float)


def nearest_ratio(world: World, rng: np.random.Generator) -> np.ndarray:
    """Minus the ratio of the first to the second distance (NNDR)."""
    d = world.to_synthetic[0].astype(float)
    return -d[:, 0] / np.maximum(d[:, min(1, d.shape[1] - 1)], 1e-9)


def ball_count(world: World, rng: np.random.Generator) -> np.ndarray:
    """Number of synthetic rows within the median nearest distance, ties by distance (Hilprecht 2019)."""
    d = world.to_synthetic[0]
    radius = max(float(np.median(d[:, 0])), 1e-6)
    return (d <= radius).sum(axis=1) - d[:, 0] / (d[:, 0].max() + 1e-9)


def distance_difference(world: World, rng: np.random.Generator) -> np.ndarray:
    """How much closer the target is to the synthetic rows than to the reference (GAN-Leaks, calibrated)."""
    return np.log(world.to_reference[0][:, 0] + 1e-6) - np.log(world.to_synthetic[0][:, 0] + 1e-6)


def local_share(world: World, rng: np.random.Generator) -> np.ndarray:
    """Share of synthetic rows among the nearest neighbours, sizes balanced (data plagiarism index)."""
    mine, theirs = world.to_synthetic[0], world.to_reference[0]
    radius = np.sort(np.concatenate([mine, theirs], axis=1), axis=1)[:, 19:20]
    near, far = (mine <= radius).sum(axis=1), (theirs <= radius).sum(axis=1)
    balance = len(world.reference) / len(world.synthetic)
    return (near * balance + 1) / (near * balance + far + 2)


def domias(world: World, rng: np.random.Generator) -> np.ndarray:
    """Log ratio of the kernel densities of synthetic rows and reference (van Breugel et al. 2023)."""
    return world.synthetic_density - world.reference_density


def gen_lra(world: World, rng: np.random.Generator) -> np.ndarray:
    """Likelihood ratio of nearby synthetic rows under reference plus target and under reference alone.

    In closed form: with a fixed bandwidth the density of R and x at s is (n p_R(s) + K(s, x)) / (n + 1),
    so that nothing is refitted per target.
    Source: Ward, Lautrup et al. (2025), Gen-LRA.
    """
    n, h = len(world.reference), world.bandwidth
    _, near = world.to_synthetic
    needed, position = np.unique(near, return_inverse=True)
    log_p = log_density(world.synthetic[needed], world.reference, h)[position.reshape(near.shape)]
    log_kernel = -0.5 * (world.to_synthetic[0].astype(float) / h) ** 2
    return (np.logaddexp(np.log(n) + log_p, log_kernel) - np.log(n + 1) - log_p).sum(axis=1)


def classifier(world: World, rng: np.random.Generator) -> np.ndarray:
    """Probability of being synthetic rather than reference, by boosted trees (LOGAN, black box)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    a, b = world.codes(1), world.codes(2)
    size = min(len(a), len(b), 10_000)
    a, b = (x[rng.choice(len(x), size, replace=False)] for x in (a, b))
    trees = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=15, random_state=int(rng.integers(1 << 31)), early_stopping=False
    )
    trees.fit(np.concatenate([a, b]), np.arange(2 * size) < size)
    return trees.predict_proba(world.codes(0))[:, 1]


def density(world: World, rng: np.random.Generator) -> np.ndarray:
    """Kernel density of the synthetic rows at the target."""
    return world.synthetic_density


def extremes(world: World, rng: np.random.Generator) -> np.ndarray:
    """Number of columns in which the target holds the smallest or largest synthetic value: min/max leaks."""
    score = np.zeros(len(world.targets))
    for name in world.columns:
        if is_numeric(world.tables[1][name]):
            mine, theirs = as_float(world.tables[0][name]), as_float(world.tables[1][name])
            score += (mine == np.nanmin(theirs)) | (mine == np.nanmax(theirs))
    return score


def queries(world: World, rng: np.random.Generator) -> np.ndarray:
    """Counts of synthetic rows that share random attributes of the target, weighed by the reference.

    A count tells membership by the log-ratio of its rate under reference plus target and under reference
    alone: what few people share weighs most.
    Source: Houssiau et al. (2022), TAPAS; Cretu et al. (2022), query-based attacks; the weight is Gen-LRA's.
    """
    asked = draw_queries(len(world.columns), rng)
    theirs, others = answers(world.tables[0], [world.tables[1], world.tables[2]], world.tables[1], asked)
    return (theirs * np.log1p(1 / (others + 0.5))).sum(axis=0)


def likelihood(world: World, rng: np.random.Generator) -> np.ndarray:
    """Log-likelihood of the target under the released network, over the reference's density if there is one.

    Source: van Breugel et al. (2023), DOMIAS, with the network's own density in place of an estimate.
    """
    return world.seen_by_model[0] - world.reference_density


def inversion(world: World, rng: np.random.Generator) -> np.ndarray:
    """How well the released network reproduces the target from the best latent found, calibrated likewise.

    Source: Chen et al. (2020), GAN-Leaks, white box. With an encoder's latent this is TVAE's reconstruction
    term; encoders and critics are not released, so the attacker searches.
    """
    _, rows, inputs = world.seen_by_model
    return world.model.invert(rows, inputs) - world.reference_density


def _attack(score: Callable, threat_model: ThreatModel) -> Attack:
    return Attack(name=score.__name__, threat_model=threat_model, score=score)


DATA_ONLY = tuple(
    _attack(a, ThreatModel.DATA_ONLY) for a in (copy, nearest_record, nearest_ratio, ball_count, density)
)
DATA_REF = tuple(
    _attack(a, ThreatModel.DATA_REF)
    for a in (distance_difference, local_share, domias, gen_lra, classifier, queries)
)
MODEL = tuple(_attack(a, ThreatModel.MODEL) for a in (likelihood, inversion))
ATTACKS = {a.name: a for a in (*DATA_ONLY, _attack(extremes, ThreatModel.DATA_ONLY), *DATA_REF, *MODEL)}
