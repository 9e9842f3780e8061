"""Where the states of a training are kept from which the rungs of a ladder are released."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.privacy.plan.plan import Plan

if TYPE_CHECKING:
    pass


def kept_states(folder: Path, plan: Plan) -> Mapping[int, Path]:
    """Returns where the states of the rungs below the highest are kept, by steps done."""
    return {rung.steps: folder / f"step-{rung.steps}.ckpt" for rung in plan.rungs[:-1]}
