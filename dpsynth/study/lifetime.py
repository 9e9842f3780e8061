"""To whom a run of the command line is charged: to the whole table, holdout included."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.config import RunConfig
from dpsynth.study.selection import TRIALS

if TYPE_CHECKING:
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.privacy.many_runs.lifetime import Account


def account_of(config: RunConfig, whole: PrivateTable, folder: Path) -> Account:
    """Returns the account of a run; all trials of a private selection are one charge.

    Args:
      whole: the table before any split of it.
    """
    from dpsynth.privacy.many_runs.costs import Cost
    from dpsynth.privacy.many_runs.lifetime import Account

    if config.sweep.trial is None:
        return Account(table=whole)
    kept = json.loads((folder.parent / TRIALS).read_text(encoding="utf-8"))
    facts = kept["selection"]
    cost = Cost(
        epsilon=facts["epsilon"],
        delta=facts["delta"],
        curve=tuple(math.inf if value is None else value for value in kept["curve"]),
        failure=kept["failure"],
    )
    return Account(table=whole, run=kept["name"], cost=cost)
