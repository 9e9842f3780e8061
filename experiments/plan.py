"""Prices a run before any private data is read: `python -m experiments.plan privacy.epsilon=1`."""

from __future__ import annotations

from omegaconf import DictConfig

from dpsynth.config import RunConfig, parse

from . import command_line


def text_of(config: RunConfig) -> str:
    """Returns the plan of a run: what it buys, how noisy, how long, and what looks unwise."""
    from dpsynth import pipeline
    from dpsynth.data.tables.datasets import load_schema
    from dpsynth.privacy.plan.pricing import describe_plan
    from dpsynth.study.labels import label_of
    from dpsynth.study.recipe import recipe_of

    schema = load_schema(config.data)
    plan = pipeline.plan(schema, recipe_of(config))
    return f"{label_of(config)}\n{describe_plan(plan, len(schema.modelled))}\n"


def main(node: DictConfig) -> None:
    """Prints one plan; a multirun prints one per point."""
    print(text_of(parse(node)))


if __name__ == "__main__":
    command_line.run(main, "plan")
