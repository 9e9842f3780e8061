"""The attacker who can run the whole method: shadow releases with and without each target.

A record's score by itself says little: an ordinary row is close to synthetic rows whether it was trained on
or not. Shadow releases show, for each target, what its score looks like in both worlds, and how well the two
can be told apart. The attacker knows the method, its public seed and a sample of the population.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.attacks.model import ReleasedModel
from dpsynth.audit.attacks.queries import answers, draw_queries
from dpsynth.audit.attacks.space import World
from dpsynth.audit.attacks.suite import ATTACKS, Attack
from dpsynth.audit.parallel import mapped
from dpsynth.audit.types import ThreatModel
from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.privacy.release.release import Release

MIN_SHADOWS = 8
_QUERIES = 48  # features of the pooled classifier, beside the scores
_POPULATION = 500  # rows of the reference that no shadow is trained on
_SCORES = ("nearest_record", "density", "local_share")
_GAMMA = 2.0  # of RMIA: how much likelier than a stranger a member has to be


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


def rmia(observed: np.ndarray, scores: np.ndarray, num_targets: int) -> np.ndarray:
    """Returns for each target the share of strangers than whom the release makes it `_GAMMA` times likelier.

    Likelihoods are relative to their mean over the shadows, so that a row that every release explains well
    gains nothing. Against one release the shares rise with the target's own ratio; the strangers set the
    scale. Ties between shares go by that ratio.

    Args:
      observed: [target and stranger] log-likelihoods, or scores for them, under the release under attack.
      scores: [shadow, target and stranger] under the shadows, half of them trained on each target.
      num_targets: the first so many are targets.
    Source: Zarifzadeh, Liu and Shokri (2024), Low-cost high-power membership inference attacks, equation 4.
    """
    ratio = observed - (np.logaddexp.reduce(scores, axis=0) - np.log(len(scores)))
    mine, strangers = ratio[:num_targets], np.sort(ratio[num_targets:])
    beaten = np.searchsorted(strangers, mine - np.log(_GAMMA), side="right") / len(strangers)
    order = np.argsort(np.argsort(mine, kind="stable"), kind="stable")
    return beaten + order / (2.0 * len(mine) * len(strangers))


def pooled(observed: np.ndarray, features: np.ndarray, included: np.ndarray, seed: int) -> np.ndarray:
    """Returns the odds of membership by a classifier of (shadow, target) pairs.

    Features are deviations from each target's own mean over the shadows; their spreads are those of all
    targets together, since one target's are mostly noise.

    Args:
      observed: [target, feature] of the release under attack.
      features: [shadow, target, feature].
    Source: Houssiau et al. (2022) and Stadler et al. (2022), one classifier for all targets in place of one
      for each, since releases are few.
    """
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0)
    spread = (features - mean).std(axis=(0, 1)) + 1e-9
    rows = ((features - mean) / spread).reshape(-1, features.shape[-1])
    model = LogisticRegression(C=0.1, max_iter=200, random_state=seed).fit(rows, included.ravel())
    return model.decision_function((observed - mean) / spread)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadows:
    """The attacker's own releases, and what each says about every target and stranger.

    Args:
      world: of the release under attack.
      fit: (table, seed) pairs -> the release, or its table, of each.
      rng: decides who is trained on.
    """

    world: World
    fit: Callable[[list[tuple[pd.DataFrame, int]]], list[pd.DataFrame | Release]]
    num: int
    rng: np.random.Generator

    @cached_property
    def seen(self) -> dict[str, np.ndarray]:
        """Returns `included` [shadow, target], and of every score and `features` the rows [release, ...]:
        first the shadows, last the release under attack. Scores go over targets, then strangers."""
        import pandas as pd

        targets, synthetic, reference = self.world.tables
        order = self.rng.permutation(len(reference))
        strangers, own = np.split(order, [min(_POPULATION, len(order) // 4)])
        everybody = pd.concat([targets, reference.iloc[strangers]], ignore_index=True)
        own = reference.iloc[own]
        asked = draw_queries(len(self.world.columns), self.rng, _QUERIES)
        included = np.zeros((self.num, len(targets)), bool)
        for pair in range(0, self.num, 2):  # each target is in one of two, so that no world is empty
            included[pair] = self.rng.random(len(targets)) < 0.5
            if pair + 1 < self.num:
                included[pair + 1] = ~included[pair]
        tables = []
        for coins in included:
            table = pd.concat([own, targets[coins]], ignore_index=True)
            tables.append(table.iloc[self.rng.permutation(len(table))].reset_index(drop=True))
        releases = self.fit([(table, shadow) for shadow, table in enumerate(tables)])
        parts = [_parts(release) for release in releases]
        if self.world.model is not None and any(model is None for _, model in parts):
            rule = "Returns tables without the weights that are attacked."
            raise InvalidInput("the shadows", [Problem("fit_sample", rule, "Return the whole Release.")])
        looks = [self._look(*part, everybody, own, asked) for part in parts]
        looks.append(self._look(synthetic, self.world.model, everybody, own, asked))
        stacked = {name: np.stack([look[name] for look in looks]) for name in looks[0].keys()}
        return {"included": included, **stacked}

    def _look(self, synthetic, model, everybody, reference, asked) -> dict[str, np.ndarray]:
        """Scores everybody against one release."""
        num = len(self.world.tables[0])
        world = World.of(everybody, synthetic[self.world.columns], reference, model)
        found = {name: ATTACKS[name].score(world, self.rng) for name in _SCORES}
        if self.world.model is not None:
            found["inversion"] = ATTACKS["inversion"].score(world, self.rng)
        counts, *_ = answers(everybody.iloc[:num], [world.tables[1]], self.world.tables[1], asked)
        scores = np.stack([score[:num] for score in found.values()], axis=1)
        return {**found, "features": np.concatenate([scores, np.log(counts.T + 0.5)], axis=1)}


def _parts(release: pd.DataFrame | Release) -> tuple[pd.DataFrame, ReleasedModel | None]:
    if hasattr(release, "iloc"):
        return release, None
    return release.synthetic, ReleasedModel.of(release)


def shadow_attacks(
    fit_sample: Callable[[pd.DataFrame, int], pd.DataFrame | Release],
    *,
    num: int,
    model: bool = False,
    backend: str = "joblib",
    jobs: int = 1,
) -> list[Attack]:
    """Returns attacks by `num` shadow releases of the attacker's sample and of targets chosen by coins.

    `lira` and `rmia` on the distance to the nearest synthetic row (kernel densities were measured to say
    less), `shadow_features`, a classifier on scores and counting queries; with weights, `lira_weights` on how
    well the network reproduces a target. All of them share the shadows.

    Formal guarantee: the coins of the release under attack play no part in the scores, so every test of them
    keeps its level.

    Args:
      fit_sample: (table, seed) -> release, or its table; the whole method, with fresh noise in every call.
      model: releases hold a network, and so does the world under attack.
      backend, jobs: of `mapped`, for the calls.
    """
    made: list[Shadows] = []
    fit = partial(mapped, fit_sample, backend=backend, jobs=jobs)

    def shadows(world: World, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], int]:
        if not made or made[0].world is not world:
            made[:] = [Shadows(world=world, fit=fit, num=num, rng=rng)]
        return made[0].seen, len(world.targets)

    def by_lira(name: str) -> Callable:
        def score(world: World, rng: np.random.Generator) -> np.ndarray:
            seen, n = shadows(world, rng)
            return lira(seen[name][-1, :n], seen[name][:-1, :n], seen["included"])

        return score

    def by_rmia(world: World, rng: np.random.Generator) -> np.ndarray:
        seen, n = shadows(world, rng)
        return rmia(seen["nearest_record"][-1], seen["nearest_record"][:-1], n)

    def by_features(world: World, rng: np.random.Generator) -> np.ndarray:
        seen, _ = shadows(world, rng)
        return pooled(seen["features"][-1], seen["features"][:-1], seen["included"], int(rng.integers(2**31)))

    attacks = [
        Attack(name="lira", threat_model=ThreatModel.QUERY, score=by_lira("nearest_record")),
        Attack(name="rmia", threat_model=ThreatModel.QUERY, score=by_rmia),
        Attack(name="shadow_features", threat_model=ThreatModel.QUERY, score=by_features),
    ]
    if model:
        attacks[2] = replace(attacks[2], threat_model=ThreatModel.MODEL)
        weights = by_lira("inversion")
        attacks.append(Attack(name="lira_weights", threat_model=ThreatModel.MODEL, score=weights))
    return attacks
