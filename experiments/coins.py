"""Secret coins of a run: which units stay out of its training by chance, so that an audit can guess which.

Each unit is a canary with probability `canary_share`, and each canary is left out by a fair coin, both from
the operating system's entropy. The plan lies apart from the run, among this user's own data; the ledger holds
a hash that commits to it and reveals nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.canaries import CanaryPlan
    from dpsynth.data.schema import Schema


def plan_file(digest: str) -> Path:
    """Returns where the plan of this hash is kept: `$XDG_DATA_HOME/dpsynth/canaries`."""
    from dpsynth.privacy.dataset_ledger import default_path

    return default_path().parent / "canaries" / f"{digest}.json"


def flip(rows: pd.DataFrame, schema: Schema, share: float, folder: Path) -> tuple[pd.DataFrame, str | None]:
    """Returns (rows to train on, hash of the coins); the same again for an interrupted run.

    Formal guarantee: each unit stays or goes by itself, whatever its values and however many units there are.
    So a mechanism on what stays is as private for the whole table as for the rows that it sees.

    Args:
      rows: private.
      share: of the units, put to a coin; public. Half of them are left out.
      folder: of the run.
    """
    if not share:
        return rows, None
    import numpy as np

    from dpsynth.audit.canaries import CanaryPlan
    from dpsynth.data.table import unit_index

    units = unit_index(rows, schema)
    digest = _begun(folder)
    if digest is not None:
        plan = read(digest, str(folder))
    else:
        plan = CanaryPlan.flip(int(units.max()) + 1 if len(units) else 0, share, rng=np.random.default_rng())
        path = plan_file(plan.digest)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        plan.dump(path)
    kept, _ = plan.split(rows, units)
    return kept.reset_index(drop=True), plan.digest


def read(digest: str, subject: str) -> CanaryPlan:
    """Reads a plan by its hash.

    Raises:
      InvalidInput: it is not on this machine, or was changed.
    """
    from dpsynth.audit.canaries import CanaryPlan

    path = plan_file(digest)
    rule = f"The canary plan {digest[:12]} is not at {path}."
    if path.is_file():
        plan = CanaryPlan.load(path)
        if plan.digest == digest:
            return plan
        rule = f"The canary plan at {path} was changed: the ledger committed to another."
    raise InvalidInput(subject, [Problem("canaries", rule, "Bring it here, or name the rows by files.")])


def digest_of(release: Path) -> str | None:
    """Returns the hash in the ledger of a release; None where no coins were flipped."""
    path = release / "ledger.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["records"][0]["plan"].get("canaries")


def _begun(folder: Path) -> str | None:
    """Returns the hash to which an interrupted run in this folder committed."""
    path = folder / "ledger.jsonl"
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as file:
        return json.loads(file.readline())["plan"].get("canaries")
