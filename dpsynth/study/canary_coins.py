"""Secret coins of a run: which units stay out of its training by chance, so that an audit can guess which.

Each unit is a canary with probability `canary_share`, and each canary is left out by a fair coin, both from
the operating system's entropy; `canary_constructed` made-up rows are put in by coins as well. The plan lies
apart from the run, among this user's own data; the ledger holds a hash that commits to it and hides it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dpsynth.audit.canaries import CanaryPlan
    from dpsynth.data.schema import Schema


def plan_file(digest: str) -> Path:
    """Returns where the plan of this hash is kept: `$XDG_DATA_HOME/dpsynth/canaries`."""
    from dpsynth.privacy.many_runs.dataset_ledger import default_path

    return default_path().parent / "canaries" / f"{digest}.json"


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """What coins make of a table.

    Args:
      trained: private; rows to train on, made-up ones among them.
      real: private; those of them that are of the table.
      digest: of the coins; None where none were flipped.
    """

    trained: pd.DataFrame
    real: pd.DataFrame
    digest: str | None = None


def flip(rows: pd.DataFrame, schema: Schema, share: float, folder: Path, *, constructed: int = 0) -> Flipped:
    """Flips the coins of a run; the same again for an interrupted one.

    Formal guarantee: each unit stays or goes by itself, whatever its values and however many units there are,
    and the made-up rows depend on no unit. So a mechanism on what is trained on is as private for the whole
    table as for the rows that it sees. Which canaries count as most vulnerable is decided by a ranking that
    reads all rows, but only names a stratum in the secret plan: a ranking that chose whom to flip a coin for
    would not do, because one unit more changes who is isolated, and with it the membership of others.

    Args:
      rows: private.
      share: of the units, put to a coin; public. Half of them are left out.
      folder: of the run.
      constructed: made-up rows, put to a coin as well; public. Half of them are trained on.
    Raises:
      InvalidInput: rows are to be made up, and the schema does not say inside what.
    """
    if not share and not constructed:
        return Flipped(trained=rows, real=rows)
    import numpy as np

    from dpsynth.audit.canaries import CanaryPlan
    from dpsynth.audit.constructed import check
    from dpsynth.data.units.units import units_of

    if constructed:
        check(schema)
    units = units_of(schema).owners(rows)
    digest = _begun(folder)
    if digest is not None:
        plan = read(digest, str(folder))
    else:
        num = int(units.max()) + 1 if len(units) else 0
        plan = CanaryPlan.flip(num, share, rng=np.random.default_rng(), constructed=constructed)
        plan = _ranked(plan, rows, schema)
        path = plan_file(plan.digest)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        plan.dump(path)
    real = plan.split(rows, units)[0].reset_index(drop=True)
    return Flipped(trained=_with_made_up(plan, real, schema), real=real, digest=plan.digest)


def _ranked(plan: CanaryPlan, rows: pd.DataFrame, schema: Schema) -> CanaryPlan:
    """Names the most isolated canaries; entities are ranked by the audit, which knows their facts."""
    from dpsynth.audit.vulnerability import isolation_of
    from dpsynth.data.units.units import units_of

    natural = plan.ids[plan.stratum == "random"]
    if not units_of(schema).by_row or not len(natural):
        return plan
    columns = [c.name for c in schema.modelled]
    return plan.with_vulnerable(isolation_of(rows[columns], natural))


def _with_made_up(plan: CanaryPlan, real: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    from dpsynth.audit.constructed import joined

    if not (plan.stratum == "constructed").any():
        return real
    made_up, coins = plan.made_up(schema, real)
    return joined(real, made_up[coins])


def targets(
    plan: CanaryPlan, rows: pd.DataFrame, schema: Schema
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray | None]:
    """Returns (canaries trained on, canaries left out, stratum of each of both in turn).

    Edge cases: strata are None where units are entities.

    Args:
      rows: private; all that were put to coins, canaries or not.
    """
    import numpy as np

    from dpsynth.audit.constructed import joined
    from dpsynth.data.units.units import units_of

    sides = plan.targets(rows, units_of(schema).owners(rows))
    if not units_of(schema).by_row:
        return *sides, None
    made = None if not (plan.stratum == "constructed").any() else plan.made_up(schema, rows)
    of = dict(zip(plan.ids.tolist(), plan.stratum.tolist()))
    strata, out = [], []
    for inside, side in zip((True, False), sides):
        strata += [of[i] for i in side.index.tolist()]
        if made is not None:
            more = made[0][made[1] == inside]
            strata += ["constructed"] * len(more)
            more.index = -1 - more.index
            side = joined(side, more).set_index(side.index.append(more.index))
        out.append(side)
    return *out, np.array(strata)


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
