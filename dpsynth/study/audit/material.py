"""Everything that an audit may look at: the release, or a bare table, and the tables around it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InvalidInput, Problem
from dpsynth.study import canary_coins
from dpsynth.study.audit.request import AuditRequest, knows_its_rows
from dpsynth.study.real_rows import CONFIG, rows_of_run

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.types import Claim
    from dpsynth.data.schema import Schema
    from dpsynth.privacy.release.release import Release

_SUFFIXES = (".csv", ".tsv", ".parquet", ".gz")


def read_plain(path: str) -> pd.DataFrame:
    """Reads a table of another tool by its suffix; dtypes are the file's."""
    import pandas as pd

    name = path.removesuffix(".gz")
    if not name.endswith((".parquet", ".csv", ".tsv")):
        raise InvalidInput(path, [Problem("suffix", f"Is none of {_SUFFIXES}.", "Convert the table.")])
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if name.endswith(".tsv") else ",")
    except (ValueError, OSError):  # their messages may quote a row
        rule = "Cannot be read as a table of its suffix."
        raise InvalidInput(path, [Problem("content", rule, "Check the file.")]) from None


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything an audit may look at; what is missing is None.

    Args:
      tables: members, nonmembers and reference, where they are known.
      train: all rows that were trained on, where they are known.
      model: the released generator, where a network makes its rows.
      canary_plan: hash of the coins that decided who is a member.
      strata: of members, then nonmembers, where coins decided.
    """

    synthetic: pd.DataFrame
    claim: Claim
    plan: Any = None
    events: tuple = ()
    schema: Any = None
    recipe: Any = None
    model: Any = None
    tables: dict[str, pd.DataFrame]
    train: pd.DataFrame | None = None
    canary_plan: str | None = None
    strata: Any = None


def gather(request: AuditRequest) -> Material:
    """Reads the release, or a bare table, and the tables around it."""
    from dpsynth.audit.smoke import charged_events, claim_of
    from dpsynth.audit.stats.tradeoff import eps_delta
    from dpsynth.audit.types import Claim
    from dpsynth.data.schema import Schema
    from dpsynth.data.tables.io import read_table

    given = {k: getattr(request, k) for k in ("members", "nonmembers", "reference") if getattr(request, k)}
    if request.foreign:
        schema = Schema.load(request.schema) if request.schema else None
        read = read_plain if schema is None else (lambda path: read_table(path, schema))
        claim = Claim(delta=request.delta)
        if request.epsilon is not None:
            f = eps_delta(request.epsilon, request.delta)
            claim = Claim(epsilon=request.epsilon, delta=request.delta, f=f)
        return Material(
            synthetic=read_plain(request.release) if schema is None else read(request.release),
            claim=claim,
            schema=schema,
            tables={k: read(v) for k, v in given.items()},
        )
    from dpsynth.audit.attacks.model import ReleasedModel
    from dpsynth.privacy.plan.plan import TrainingPlan
    from dpsynth.privacy.release.release import Release

    release = Release.load(request.release)
    stored = release.ledger[0]["plan"]
    training = TrainingPlan(**stored["training"]) if stored["training"] and stored["private"] else None
    if training is not None:
        training = training.with_count(release.statistics.num_units)
    tables = {k: read_table(v, release.schema) for k, v in given.items()}
    train, digest, strata = tables.get("members"), None, None
    if request.kind in ("smoke", "release", "full") and knows_its_rows(request):
        reason = f"audit={request.kind} of {request.release}"
        rows = rows_of_run(Path(request.release), release.schema, reason)
        train, tables = rows.train, {"members": rows.train, "reference": rows.holdout}
        if rows.canaries is not None:
            tables |= dict(zip(("members", "nonmembers"), rows.canaries))
            digest, strata = canary_coins.digest_of(Path(request.release)), rows.strata
    return Material(
        synthetic=release.synthetic,
        claim=claim_of(release.certificate, release.ledger),
        plan=training,
        events=tuple(charged_events(release.ledger)),
        schema=release.schema,
        recipe=release.generator,
        model=ReleasedModel.of(release) if request.kind in ("release", "full") else None,
        tables=tables,
        train=train,
        canary_plan=digest,
        strata=strata,
    )


def again(request: AuditRequest, schema: Schema) -> Callable[[pd.DataFrame, int], Release] | None:
    """Returns the method of the run that made the release; None where it is unknown or has entities.

    It is the whole pipeline with fresh noise in every call, and the run's own public seed: an attacker starts
    from the same networks and latents.
    """
    from dpsynth.data.units.units import units_of

    if not knows_its_rows(request) or not units_of(schema).by_row:
        return None
    import yaml

    from dpsynth import pipeline
    from dpsynth.config import parse
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.privacy.many_runs.lifetime import Uncharged
    from dpsynth.study.recipe import recipe_of

    path = Path(request.release).resolve().parent / CONFIG
    recipe = recipe_of(parse(yaml.safe_load(path.read_text(encoding="utf-8"))))

    game = Uncharged("a shadow run of an audit, whose release is internal and thrown away")

    def fit(table: pd.DataFrame, shadow: int) -> Release:
        with tempfile.TemporaryDirectory() as folder:
            return pipeline.run(PrivateTable(table, schema), recipe, folder, account=game).release

    return fit


def targets(request: AuditRequest, material: Material, seed: int) -> dict[str, Any]:
    """Returns members, nonmembers and reference; entities instead of rows where the unit is one.

    Without nonmembers, half of the reference becomes targets: drawn at random, by entity.
    """
    import numpy as np

    from dpsynth.data.units.units import units_of

    schema, tables = material.schema, dict(material.tables)
    unit = schema.unit.column if schema is not None else request.unit
    time = request.time if schema is None else units_of(schema).time or request.time
    synthetic = material.synthetic
    if unit is not None and unit in synthetic.columns:
        from dpsynth.audit.attacks.sequences import entities

        tables = {k: entities(v, unit, time) for k, v in tables.items()}
        synthetic = entities(synthetic, unit, time)
    if "nonmembers" not in tables:
        order = np.random.default_rng(seed).permutation(len(tables["reference"]))
        half = len(order) // 2
        tables["nonmembers"] = tables["reference"].iloc[order[:half]]
        tables["reference"] = tables["reference"].iloc[order[half:]]
    return {**tables, "synthetic": synthetic, "strata": material.strata}
