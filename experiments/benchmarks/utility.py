"""The utility suite: what released rows are worth, by generator, budget and noise draw."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experiments.benchmarks.harness import Figure, checked_names

ROWS = ("auc", "tv_1way", "tv_2way", "seconds")
_METRICS = {"tstr_auc_boosting": "auc", "tv_1way": "tv_1way", "tv_2way": "tv_2way"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Keys of conf/suite/utility.yaml.

    Args:
      name: of the suite.
      data: a choice of conf/data that has a target.
      path: a local file of it.
      generators: methods to compare.
      epsilons: declared budgets.
      draws: noise draws of each point; split, weights and latents are the same.
      holdout_share, delta, threads: as in a run.
    """

    name: str = "utility"
    data: str = "adult"
    path: str | None = None
    generators: tuple[str, ...] = ("independent", "bayes_net", "marginal_net", "ctgan", "tvae")
    epsilons: tuple[float, ...] = (1.0, 10.0)
    draws: int = 3
    holdout_share: float = 0.2
    delta: float = 1e-5
    threads: int = 1


def checked_rows(rows: Any) -> tuple[str, ...]:
    """The figures to show, in order; None means all."""
    return checked_names(rows, ROWS)


def measure(rows: tuple[str, ...], settings: Settings) -> Iterator[tuple[str, list[Figure] | str]]:
    """Runs every point; yields its figures: mean, least and largest over the noise draws."""
    import torch

    from dpsynth.data.datasets import DataConfig, load
    from dpsynth.data.split import split

    torch.set_num_threads(settings.threads)
    config = DataConfig(name=settings.data, path=settings.path, schema=f"schemas/{settings.data}.yaml")
    frame, schema = load(config)
    train, test = split(frame, schema, settings.holdout_share, seed=0)
    for epsilon in settings.epsilons:
        for generator in settings.generators:
            found = [_point(train, test, schema, generator, epsilon, settings) for _ in range(settings.draws)]
            yield f"{generator}", [_figure(row, generator, epsilon, found) for row in rows]


def _figure(row: str, generator: str, epsilon: float, found: list[dict[str, float]]) -> Figure:
    values = [figures[row] for figures in found]
    return Figure(
        row=row,
        name=f"{generator} epsilon={epsilon:g}",
        value=sum(values) / len(values),
        unit="s" if row == "seconds" else "",
        low=min(values),
        high=max(values),
    )


def _point(
    train: Any, test: Any, schema: Any, generator: str, epsilon: float, settings: Settings
) -> dict[str, float]:
    """One run under fresh noise, and its figures; internal."""
    from dpsynth.data.table import PrivateTable
    from dpsynth.evaluation.metrics import EvaluationConfig, evaluate
    from dpsynth.generators.base import load_generator
    from dpsynth.pipeline import Recipe, run
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    recipe = Recipe(
        generator=generator,
        settings=load_generator(generator).Config(),
        privacy=PrivacyConfig(epsilon=epsilon, delta=settings.delta),
        training=TrainingConfig(threads=settings.threads),
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        release = run(PrivateTable(train, schema), recipe, folder).release
    seconds = time.perf_counter() - start
    config = EvaluationConfig(models=("boosting",), propensity=False, num_bootstraps=20)
    found = evaluate(release.synthetic, train, test, schema, config, seed=0)
    return {short: found[name].value for name, short in _METRICS.items()} | {"seconds": seconds}
