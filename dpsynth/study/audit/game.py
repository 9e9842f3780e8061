"""Trains a release's method again and again on worst-case neighbours, and plays the game of the audit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.multirun import MultirunConfig
    from dpsynth.audit.types import AuditResult, Claim
    from dpsynth.data.schema import Schema
    from dpsynth.pipeline import Recipe

ROWS, COLUMNS, STEPS = 32, 2, 20
_SMALL = {"size": "small", "anchor_steps": 20, "warm_steps": 5, "anchor_batch_size": 100}
_SMALL |= {"fit_pool": 1000, "sampling_batch_size": 1000}


def small_world() -> tuple[Schema, pd.DataFrame, pd.DataFrame]:
    """Returns (schema, D, D'): rows at 0 in narrow columns, and in D one more at 1."""
    from dpsynth.audit.multirun import worst_case
    from dpsynth.data.schema import Continuous, Schema

    inside, outside = worst_case(ROWS, columns=COLUMNS)
    columns = tuple(Continuous(name=name, min=0.0, max=1.0, decimals=3) for name in inside.columns)
    return Schema(columns=columns, num_units=ROWS), inside, outside


def small_recipe(generator: Mapping[str, Any], epsilon: float, delta: float) -> Recipe:
    """Returns the release's method at the claimed budget, with small networks and few steps."""
    from dpsynth.generators.base import load_generator
    from dpsynth.pipeline import Recipe
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in generator["config"].items()}
    settings = load_generator(generator["name"]).Config(**stored)
    smaller = {k: v for k, v in _SMALL.items() if hasattr(settings, k)}
    training = TrainingConfig(steps=STEPS, epochs=None, sample_rate=0.5, physical_batch_size=64, threads=1)
    return Recipe(
        generator=generator["name"],
        settings=replace(
            settings, **{k: v for k, v in smaller.items() if type(v) is type(getattr(settings, k))}
        ),
        privacy=PrivacyConfig(epsilon=epsilon, delta=delta),
        training=training,
        num_rows=64,
    )


def fitter(schema: Schema, recipe: Recipe) -> Callable[[pd.DataFrame, int], pd.DataFrame]:
    """Returns (table, seed) -> released rows: the whole pipeline, with fresh noise in every call.

    The recipe's own seed stays: it is public, so an attacker starts from the same networks and latents, and
    nothing but the noise hides the unit.
    """

    def fit_sample(table: pd.DataFrame, seed: int) -> pd.DataFrame:
        from dpsynth import pipeline
        from dpsynth.data.tables.table import PrivateTable
        from dpsynth.privacy.many_runs.lifetime import Uncharged

        game = Uncharged("a game of an audit, with tables of its own making")
        with tempfile.TemporaryDirectory() as folder:
            run = pipeline.run(PrivateTable(table, schema), recipe, folder, account=game)
        return run.release.synthetic

    return fit_sample


def play(generator: Mapping[str, Any] | None, claim: Claim, config: MultirunConfig) -> AuditResult:
    """Audits the whole pipeline with this method, at the claimed budget.

    The claim under test is the curve of the small runs' own plan, which meets the same (epsilon, delta).
    """
    from dpsynth import pipeline
    from dpsynth.audit.multirun import audit_multirun
    from dpsynth.audit.stats.tradeoff import from_events
    from dpsynth.audit.types import Claim

    if generator is None or claim.epsilon is None:
        rule = "Holds no private claim and method that could be run again."
        raise InvalidInput(
            "the multirun audit", [Problem("release", rule, "Name the folder of a private release.")]
        )
    schema, inside, outside = small_world()
    recipe = small_recipe(generator, claim.epsilon, claim.delta)
    plan = pipeline.plan(schema, recipe)
    tested = Claim(epsilon=plan.epsilon, delta=claim.delta, f=from_events([e.event for e in plan.events]))
    inside, outside = (t.astype(np.float64) for t in (inside, outside))
    return audit_multirun(fitter(schema, recipe), inside, outside, claim=tested, config=config)
