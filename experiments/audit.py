"""Attacks a release: `python -m experiments.audit release=DIR members=FILE reference=FILE audit=release`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.errors import InvalidInput, Problem, nearest
from experiments.command_line import run
from experiments.real_rows import CONFIG, find_real_rows

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.types import AuditResult, Claim

KINDS = ("smoke", "whitebox", "release", "multirun", "full")
_SUFFIXES = (".csv", ".tsv", ".parquet", ".gz")


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to audit and how; keys of conf/audit.yaml."""

    release: str
    members: str | None
    reference: str | None
    nonmembers: str | None
    schema: str | None
    unit: str | None
    time: str | None
    epsilon: float | None
    delta: float
    out: str | None
    audit: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.audit["kind"]

    @property
    def foreign(self) -> bool:
        """A table of another tool: there is no ledger and no plan."""
        return Path(self.release).is_file()


def settings_of(kind: str) -> type:
    """Returns the dataclass that describes conf/audit/<kind>.yaml."""
    from dpsynth.audit.configs import MultirunConfig, ReleaseConfig, SmokeConfig, WhiteboxConfig

    return {
        "smoke": SmokeConfig,
        "whitebox": WhiteboxConfig,
        "release": ReleaseConfig,
        "multirun": MultirunConfig,
    }[kind]


def _settings(kind: str, values: dict[str, Any], where: str = "audit") -> tuple[Any, list[Problem]]:
    from dpsynth.config import _section

    problems: list[Problem] = []
    own = {key: value for key, value in values.items() if key != "kind" or kind == "smoke"}
    return _section(settings_of(kind), own, where, problems), problems


def checked(node: DictConfig | dict[str, Any]) -> AuditRequest:
    """Checks the composed configuration before anything is read; one `InvalidInput` with every problem."""
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    known = [f.name for f in fields(AuditRequest)]
    problems = [Problem(k, "Is not a known key.", nearest(k, known)) for k in plain if k not in known]
    request = AuditRequest(**{k: plain.get(k) for k in known})
    if request.kind not in KINDS:
        raise InvalidInput(
            "The configuration", [Problem("audit.kind", f"{request.kind!r}.", f"Choose from {KINDS}.")]
        )
    if not request.release or not Path(str(request.release)).exists():
        rule = "Is not given." if not request.release else f"No folder or file {request.release!r}."
        problems.append(Problem("release", rule, "Name the folder of a release or a synthetic table."))
    elif request.foreign and request.kind not in ("release",):
        problems.append(Problem("audit", "A bare table has no ledger to audit.", "Choose audit=release."))
    for key in ("members", "reference", "nonmembers", "schema"):
        file = getattr(request, key)
        if file is not None and not Path(str(file)).is_file():
            problems.append(Problem(key, f"No file {file!r}.", f"Correct {key}."))
    if request.kind == "release" and not _knows_its_rows(request):
        for key in ("members", "reference"):
            if getattr(request, key) is None:
                problems.append(Problem(key, "Is not given.", f"Add {key}=FILE."))
    if request.epsilon is not None and not request.epsilon >= 0:
        problems.append(Problem("epsilon", f"{request.epsilon!r} is below 0.", "Give the claimed epsilon."))
    if not (isinstance(request.delta, float) and 0 < request.delta < 1):
        problems.append(Problem("delta", f"{request.delta!r} is not in (0, 1).", "Give the claimed delta."))
    parts = (
        {k: request.audit.get(k) or {} for k in KINDS[:-1]}
        if request.kind == "full"
        else {request.kind: request.audit}
    )
    for kind, values in parts.items():
        problems += _settings(kind, values, "audit" if len(parts) == 1 else f"audit.{kind}")[1]
    if problems:
        raise InvalidInput("The configuration", problems)
    return request


def _knows_its_rows(request: AuditRequest) -> bool:
    """A run of ours leaves its configuration beside its release, which says how the table was split."""
    given = request.members or request.reference or request.nonmembers
    return not given and not request.foreign and (Path(request.release).resolve().parent / CONFIG).is_file()


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
    """Everything an audit may look at; what is missing is None."""

    synthetic: pd.DataFrame
    claim: Claim
    plan: Any = None
    events: tuple = ()
    schema: Any = None
    recipe: Any = None
    tables: dict[str, pd.DataFrame]


def gather(request: AuditRequest) -> Material:
    """Reads the release, or a bare table, and the tables around it."""
    from dpsynth.audit.smoke import charged_events, claim_of
    from dpsynth.audit.stats.tradeoff import eps_delta
    from dpsynth.audit.types import Claim
    from dpsynth.data.io import read_table
    from dpsynth.data.schema import Schema

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
    from dpsynth.privacy.plan import TrainingPlan
    from dpsynth.privacy.release import Release

    release = Release.load(request.release)
    stored = release.ledger[0]["plan"]
    training = TrainingPlan(**stored["training"]) if stored["training"] and stored["private"] else None
    if training is not None:
        training = training.with_count(release.statistics.num_units)
    tables = {k: read_table(v, release.schema) for k, v in given.items()}
    if request.kind in ("smoke", "release", "full") and _knows_its_rows(request):
        reason = f"audit={request.kind} of {request.release}"
        rows = find_real_rows(Path(request.release), release.schema, None, None, reason)
        tables = dict(zip(("members", "reference"), rows))
    return Material(
        synthetic=release.synthetic,
        claim=claim_of(release.certificate, release.ledger),
        plan=training,
        events=tuple(charged_events(release.ledger)),
        schema=release.schema,
        recipe=release.generator,
        tables=tables,
    )


def run_one(kind: str, settings: Any, request: AuditRequest, material: Material) -> AuditResult:
    """Runs one audit."""
    if kind == "smoke":
        from dpsynth.audit.smoke import smoke

        return smoke(
            claim=material.claim,
            events=material.events,
            plan=material.plan,
            release=request.release,
            train=material.tables.get("members"),
            schema=material.schema,
            config=settings,
        )
    if kind == "whitebox":
        from dpsynth.audit.whitebox import audit_whitebox

        if material.plan is None:
            rule = "Nothing in this release was trained under privacy."
            raise InvalidInput("the white-box audit", [Problem("release", rule, "Choose audit=release.")])
        return audit_whitebox(material.plan, delta=material.claim.delta, config=settings)
    if kind == "multirun":
        from experiments.audit_game import play

        return play(material.recipe, material.claim, settings)
    from dpsynth.audit.release import audit_release

    try:
        return audit_release(
            **targets(request, material, settings.seed), claim=material.claim, config=settings
        )
    except InvalidInput as error:
        if request.nonmembers is not None:
            raise
        raise InvalidInput(error.subject, _of_reference(error.problems)) from None


def _of_reference(problems: Sequence[Problem]) -> list[Problem]:
    """Speaks of the file that was given: half of it are the non-members."""
    told = [replace(p, where=p.where.replace("nonmembers", "reference")) for p in problems]
    return list(dict.fromkeys(told))


def targets(request: AuditRequest, material: Material, seed: int) -> dict[str, Any]:
    """Returns members, nonmembers and reference; entities instead of rows where the unit is one.

    Without nonmembers, half of the reference becomes targets: drawn at random, by entity.
    """
    import numpy as np

    schema, tables = material.schema, dict(material.tables)
    unit = schema.unit.column if schema is not None else request.unit
    time = schema.sequence.time if schema is not None and schema.sequence else request.time
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
    return {**tables, "synthetic": synthetic}


def audit(request: AuditRequest) -> tuple[list[AuditResult], int]:
    """Runs what is asked for; returns the results and the exit code of the worst verdict."""
    from dpsynth.audit.types import worst

    material = gather(request)
    if request.kind != "full":
        kinds = {request.kind: request.audit}
    else:
        kinds = {k: request.audit[k] for k in ("smoke",)}
        if material.plan is not None:
            kinds["whitebox"] = request.audit["whitebox"]
        if {"members", "reference"} <= material.tables.keys():
            kinds["release"] = request.audit["release"]
        if request.audit.get("with_multirun"):
            kinds["multirun"] = request.audit["multirun"]
    results = [run_one(k, _settings(k, v)[0], request, material) for k, v in kinds.items()]
    return results, worst(*(r.verdict for r in results)).exit_code


def metrics(results: list[AuditResult]) -> dict[str, float]:
    """Returns the figures of all results by the names under which a tracker logs them."""
    named: dict[str, float] = {}
    for result in results:
        named |= result.metrics()
    return named


def job(node: DictConfig) -> int:
    """Audits, writes `audit.json` and `audit.html`, prints the verdicts; returns the exit code."""
    from dpsynth.audit import page

    request = checked(node)
    results, code = audit(request)
    beside = Path(request.release).parent / "audit"
    folder = Path(request.out) if request.out else beside
    folder.mkdir(parents=True, exist_ok=True)
    body = {"results": [r.to_dict() for r in results], "metrics": metrics(results), "exit_code": code}
    (folder / "audit.json").write_text(json.dumps(body, indent=1, allow_nan=False), encoding="utf-8")
    page.write(results, folder / "audit.html", title=f"Audit of {Path(request.release).name}")
    for result in results:
        print(f"{result.kind}: {result.verdict.value}. {result.reason}")
    print(f"Internal: {folder / 'audit.json'} and audit.html")
    return code


def main() -> None:
    """Ends with the exit code of the verdict."""
    codes: list[int] = []
    run(lambda node: codes.append(job(node)), "audit", checked=checked)
    sys.exit(max(codes, default=0))


if __name__ == "__main__":
    main()
