"""The attacker who can run the whole method: shadow releases with and without each target (LiRA).

A record's score by itself says little: an ordinary row is close to synthetic rows whether it was trained on
or not. Shadow releases show, for each target, what its score looks like in both worlds, and how well the two
can be told apart. The attacker knows the method, its public seed and a sample of the population.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.attacks.space import World
from dpsynth.audit.attacks.suite import Attack, nearest_record
from dpsynth.audit.types import ThreatModel

if TYPE_CHECKING:
    import pandas as pd

MIN_SHADOWS = 8


def lira(observed: np.ndarray, scores: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Returns the log likelihood ratio of each target's score: trained on over left out.

    Means are each target's own, with one variance per world for all: with tens of shadows, variances of one
    target are mostly noise. Means are shrunk to the average shift for the same reason.

    Args:
      observed: [target] scores against the release under attack.
      scores: [shadow, target] scores against shadow releases.
      included: [shadow, target] whether the shadow was trained on the target.
    Source: Carlini et al. (2022), LiRA, online with global variance.
    """
    means, spreads, counts = [], [], []
    for world in (included, ~included):
        known = np.where(world, scores, np.nan)
        means.append(np.nanmean(known, axis=0))
        spreads.append(float(np.sqrt(np.nanmean((known - means[-1]) ** 2))) + 1e-9)
        counts.append(world.sum(axis=0).clip(min=1))
    inside, outside = means
    shift, noise = inside - outside, spreads[0] ** 2 / counts[0] + spreads[1] ** 2 / counts[1]
    signal = max(float(np.var(shift) - noise.mean()), 0.0)
    inside = outside + shift.mean() + (shift - shift.mean()) * signal / (signal + noise)
    return _log_normal(observed, inside, spreads[0]) - _log_normal(observed, outside, spreads[1])


def _log_normal(values: np.ndarray, mean: np.ndarray, stddev: float) -> np.ndarray:
    return -0.5 * ((values - mean) / stddev) ** 2 - np.log(stddev)


def shadow_attack(
    fit_sample: Callable[[pd.DataFrame, int], pd.DataFrame], *, num: int, base: Callable = nearest_record
) -> Attack:
    """Returns an attack by `num` shadow releases of the attacker's sample and of targets chosen by coins.

    Formal guarantee: the coins of the release under attack play no part in the scores, so every test of them
    keeps its level.

    Args:
      fit_sample: (table, seed) -> released table; the whole method, with fresh noise in every call.
      base: score whose two worlds are compared.
    """

    def score(world: World, rng: np.random.Generator) -> np.ndarray:
        import pandas as pd

        targets, _, reference = world.tables
        included = np.zeros((num, len(targets)), bool)
        for pair in range(0, num, 2):  # each target is in one of two, so that no world is empty
            included[pair] = rng.random(len(targets)) < 0.5
            if pair + 1 < num:
                included[pair + 1] = ~included[pair]
        scores = np.empty(included.shape)
        for shadow, coins in enumerate(included):
            table = pd.concat([reference, targets[coins]], ignore_index=True)
            table = table.iloc[rng.permutation(len(table))].reset_index(drop=True)
            synthetic = fit_sample(table, shadow)[world.columns]
            scores[shadow] = base(World.of(targets, synthetic, reference), rng)
        return lira(base(world, rng), scores, included)

    return Attack(name="lira", threat_model=ThreatModel.QUERY, score=score)
