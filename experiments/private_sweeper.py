"""`sweep.selection=private`: a secret random number of trials, each a configuration of the grid at random."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import OmegaConf


class PrivateSweeper(BasicSweeper):
    """Hydra's own sweeper over trials that are drawn from the grid, not over the grid itself."""

    def split_arguments(self, overrides: Any, max_batch_size: int | None) -> list[list[list[str]]]:
        from dpsynth.study.selection import draw_trials

        (grid,) = BasicSweeper.split_arguments(overrides, None)

        def composed(words: list[str]) -> Any:
            node = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
            return OmegaConf.masked_copy(node, [key for key in node if key != "hydra"])

        trials = draw_trials(grid, composed, self.config.hydra.sweep.dir)
        return [trials] if trials else []
