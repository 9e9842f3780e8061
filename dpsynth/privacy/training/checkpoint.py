"""Checkpoints: a training that was interrupted continues the event it charged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dpsynth.data.tables.table import Receipt
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.plan.plan import TrainingPlan

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a training writes its state, and from where it resumes if a state is there.

    Formal guarantee: what is written (parameters, optimizer state, averages) is output of the charged
    event, and public random states. Entropy is never written: a resumed run draws fresh coins and noise, so
    its steps are independent of those that a crash threw away, which nobody saw. A state resumes only under
    the ledger and the plan that it was made with, so nobody trains for free or pays twice.

    Args:
      path: of one file; replaced atomically.
      every: steps between writes; 0 writes only at the end.
      kept: states of which a copy stays, by steps done: where to write it.
    """

    path: Path
    every: int = 0
    kept: Mapping[int, Path] = field(default_factory=dict)

    def due(self, done: int, steps: int) -> bool:
        """Whether to write after `done` steps."""
        return done in self.kept or done == steps or (self.every > 0 and done > 0 and done % self.every == 0)

    def save(
        self, done: int, objective: Any, parts: dict[str, Any], receipt: Receipt, plan: TrainingPlan
    ) -> None:
        """Writes the state after `done` steps."""
        state = {
            "version": _VERSION,
            "step": done,
            "ledger": receipt.ledger_id,
            "event": receipt.event_index,
            "plan": _plan_record(plan),
            "objective": objective.state(),
            "parts": {name: _state(part) for name, part in parts.items()},
            "torch": torch.get_rng_state(),
        }
        # The copy first: who resumes from `path` has passed all states that were to be kept before it.
        for path in (self.kept.get(done), self.path):
            if path is not None:
                _write(state, Path(path))

    def read(self, ledger_id: str, plan: TrainingPlan) -> dict[str, Any] | None:
        """Reads the state, or None if there is none; for use before anything is charged.

        Raises:
          GuaranteeVoid: the state belongs to another ledger or plan.
        """
        if not Path(self.path).exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            version = state["version"]
        except Exception:  # whatever torch finds wrong with a file that it did not write
            raise GuaranteeVoid(
                f"Checkpoint {self.path} is damaged. Restore it, or remove it: then training begins anew "
                "under the charge that is made already."
            ) from None
        if version != _VERSION:
            raise GuaranteeVoid(f"Checkpoint {self.path} has another format. Move it away.")
        if state["ledger"] != ledger_id:
            raise GuaranteeVoid(f"Checkpoint {self.path} belongs to another ledger. Resume that one.")
        if state["plan"] != _plan_record(plan):
            raise GuaranteeVoid(f"Checkpoint {self.path} has another plan. Restore that configuration.")
        return state

    def resume(self, state: dict[str, Any], objective: Any, parts: dict[str, Any], receipt: Receipt) -> int:
        """Restores what `read` returned, under the receipt of the open event; returns the steps done.

        Raises:
          GuaranteeVoid: the receipt is for another event.
        """
        if state["event"] != receipt.event_index:
            raise GuaranteeVoid(f"Checkpoint {self.path} belongs to another event of this ledger.")
        objective.load_state(state["objective"])
        for name, part in parts.items():
            _load(part, state["parts"][name])
        torch.set_rng_state(state["torch"])
        return int(state["step"])


def _write(state: dict[str, Any], path: Path) -> None:
    """Replaces a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _plan_record(plan: TrainingPlan) -> dict[str, Any]:
    """The constants of the event; where and how it is computed may change on resumption."""
    record = dataclasses.asdict(plan)
    for name in ("physical_batch_size", "backend", "device"):
        record.pop(name, None)
    return record


def _state(part: Any) -> Any:
    return part.get_state() if isinstance(part, torch.Generator) else part.state()


def _load(part: Any, state: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(state)
    else:
        part.load_state(state)
