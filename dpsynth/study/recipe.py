"""From a checked configuration to what the pipeline needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpsynth.config import RunConfig

if TYPE_CHECKING:
    from dpsynth.pipeline import Recipe


def recipe_of(config: RunConfig) -> Recipe:
    """Returns the part of the configuration that the pipeline needs."""
    from dpsynth.pipeline import Recipe

    return Recipe(
        generator=config.generator_name,
        settings=config.generator,
        privacy=config.privacy,
        training=config.training,
        seed=config.seed,
        num_rows=config.num_rows,
        chosen=config.sweep.chosen,
        purpose=config.release.purpose,
        rationale=config.release.rationale,
    )
