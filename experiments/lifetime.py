"""Charges a run to its table before anything is read: what all runs spend together, over days."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.config import RunConfig

from .selection import TRIALS

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.pipeline import Plan
    from dpsynth.privacy.dataset_ledger import Cost, Spent

_NAME = "table_charge.txt"  # the run's name in the dataset ledger, which a resumed run finds again
_ALL = 2**31


def charge_table(config: RunConfig, plan: Plan, frame: pd.DataFrame, schema: Schema, folder: Path) -> Spent:
    """Charges the run, or the private selection that it is a trial of, to the whole table.

    The table is known by all its rows, so another split of it, or another cap, is the same table.

    Raises:
      BudgetExceeded: the lifetime budget does not allow it; nothing was read.
    """
    from dpsynth.data.table import PrivateTable
    from dpsynth.privacy.dataset_ledger import DatasetLedger

    whole = schema
    if schema.unit.column is not None:
        whole = dataclasses.replace(schema, unit=dataclasses.replace(schema.unit, max_rows=_ALL))
    ledger, privacy = DatasetLedger(config.privacy.dataset_ledger), config.privacy
    name, cost = _charged(config, plan, folder)
    return ledger.charge(
        ledger.key(PrivateTable(frame, whole)),
        name,
        cost,
        delta=privacy.lifetime_delta or privacy.delta,
        lifetime_epsilon=privacy.lifetime_epsilon,
    )


def _charged(config: RunConfig, plan: Plan, folder: Path) -> tuple[str, Cost]:
    """Returns under which name to charge what; all trials of a selection are one charge."""
    from dpsynth.privacy.dataset_ledger import Cost, run_cost

    if config.sweep.trial is not None:
        kept = json.loads((folder.parent / TRIALS).read_text(encoding="utf-8"))
        facts = kept["selection"]
        curve = tuple(math.inf if value is None else value for value in kept["curve"])
        failure = kept["failure"]
        return kept["name"], Cost(
            epsilon=facts["epsilon"], delta=facts["delta"], curve=curve, failure=failure
        )
    path = folder / _NAME
    if not path.exists():
        draft = path.with_suffix(".draft")
        with open(draft, "w", encoding="utf-8") as file:
            file.write(uuid.uuid4().hex)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    epsilon = plan.guarantee.epsilon if plan.private else None
    return path.read_text(encoding="utf-8"), run_cost(
        [event.event for event in plan.events], epsilon, config.privacy.delta
    )
