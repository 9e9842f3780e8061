"""The contenders: generators over the public Adult schema with made-up statistics, private and plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.generators.base import load_generator
from dpsynth.places import CONF
from dpsynth.privacy.noise.entropy import AesEntropy
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.clipping import BookKeeper
from dpsynth.privacy.training.sampling import PoissonSampler, UnitStore, as_store
from dpsynth.privacy.training.train import PrivateStep

NUM_UNITS = 32_561  # the published size of Adult's training part


@cache
def adult() -> Schema:
    return Schema.load(CONF / "data" / "schemas" / "adult.yaml")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One generator ready to be stepped.

    Args:
      name: of the method.
      settings: differ from its defaults.
      private: DP-SGD, or the plain objective.
      device: "cpu" or "cuda".
      statistics: as if bought; None makes them up.
    """

    name: str
    settings: dict[str, Any]
    private: bool
    schema: Schema
    device: str = "cpu"
    statistics: Statistics | None = None

    @cached_property
    def generator(self) -> Any:
        module, statistics = load_generator(self.name), self.statistics or Statistics.made_up(self.schema)
        config = module.Config(**self.settings)
        encoder = module.Generator.encoder(config, self.schema, statistics, private=self.private)
        made = module.Generator(config, encoder, statistics, seed=0, private=self.private)
        return made.to(self.device)

    @cached_property
    def objective(self) -> Any:
        return self.generator.objective() if self.private else self.generator.plain_objective()

    def units(self, num: int) -> Tensor:
        """Made-up units, packed."""
        draw = torch.Generator(self.device).manual_seed(1)
        return self.generator.objective().example_units(num, draw)

    def private_step(
        self,
        batch_size: int,
        store: UnitStore | Tensor,
        *,
        backend: str = "fast",
        physical: int = 1 << 13,
        generator_steps: bool = False,
    ) -> Callable[[], None]:
        """One whole DP step: coins, units, clipping, noise, optimizer; with or without the generator's."""
        store, objective, entropy = as_store(store, self.device), self.objective, AesEntropy()
        plan = TrainingPlan(
            sample_rate=batch_size / len(store),
            steps=1,
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=float(batch_size),
            backend=backend,
            device=self.device,
        )
        objective.private.train()
        keeper = BookKeeper(objective.private)
        step = PrivateStep(objective, plan, entropy, physical=physical, keeper=keeper)
        sampler = PoissonSampler(len(store), plan.sample_rate, entropy)
        draw = torch.Generator(self.device).manual_seed(2)
        taken = [0]

        def run() -> None:
            step(store, sampler.draw(), draw)
            if generator_steps:
                with step.paused():
                    objective.public_step(taken[0], draw)
                taken[0] += 1
            if self.device != "cpu":
                torch.cuda.synchronize()

        return run

    def plain_step(self, units: Tensor) -> Callable[[], None]:
        """One published step of the plain objective."""
        draw = torch.Generator(self.device).manual_seed(2)
        self.objective.bind(units.to(self.device))

        def run() -> None:
            self.objective.step(draw)
            if self.device != "cpu":
                torch.cuda.synchronize()

        return run


def repeated(step: Callable[[], None], times: int) -> Callable[[], None]:
    """A round of several steps."""

    def run() -> None:
        for _ in range(times):
            step()

    return run
