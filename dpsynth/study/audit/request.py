"""What `python -m experiments.audit` was asked for, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.study.audit import scores
from dpsynth.study.real_rows import CONFIG

KINDS = ("smoke", "whitebox", "release", "multirun", "full")


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
    tracking: Any = None

    @property
    def kind(self) -> str:
        return self.audit["kind"]

    @property
    def foreign(self) -> bool:
        """A table of another tool: there is no ledger and no plan."""
        return Path(self.release).is_file()

    @property
    def folder(self) -> Path:
        """Where the result goes: beside the release, apart from the audit that the run itself ended with."""
        if self.out:
            return Path(self.out)
        place = Path(self.release).resolve()
        own = f"audit-{self.kind}"
        return place.parent / (f"{place.name.split('.')[0]}-{own}" if self.foreign else own)


def settings_of(kind: str) -> type:
    """Returns the dataclass that describes conf/audit/<kind>.yaml."""
    from dpsynth.audit.configs import MultirunConfig, ReleaseConfig, SmokeConfig, WhiteboxConfig

    return {
        "smoke": SmokeConfig,
        "whitebox": WhiteboxConfig,
        "release": ReleaseConfig,
        "multirun": MultirunConfig,
    }[kind]


def settings(kind: str, values: dict[str, Any], where: str = "audit") -> tuple[Any, list[Problem]]:
    """Returns (the settings of one audit, what is wrong with them)."""
    from dpsynth.config import _section

    problems: list[Problem] = []
    own = {key: value for key, value in values.items() if key != "kind" or kind == "smoke"}
    return _section(settings_of(kind), own, where, problems), problems


def checked(node: Mapping[str, Any]) -> AuditRequest:
    """Checks the composed configuration before anything is read; one `InvalidInput` with every problem."""
    from dpsynth.config import parse_group, plain_data

    plain = plain_data(node)
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
    if request.kind == "release" and not knows_its_rows(request):
        for key in ("members", "reference"):
            if getattr(request, key) is None:
                problems.append(Problem(key, "Is not given.", f"Add {key}=FILE."))
    if request.epsilon is not None and not request.epsilon >= 0:
        problems.append(Problem("epsilon", f"{request.epsilon!r} is below 0.", "Give the claimed epsilon."))
    if not (isinstance(request.delta, float) and 0 < request.delta < 1):
        problems.append(Problem("delta", f"{request.delta!r} is not in (0, 1).", "Give the claimed delta."))
    group = {"name": "none"} if plain.get("tracking") is None else plain["tracking"]
    request = replace(request, tracking=parse_group("tracking", group, problems))
    parts = (
        {k: request.audit.get(k) or {} for k in KINDS[:-1]}
        if request.kind == "full"
        else {request.kind: request.audit}
    )
    if request.release and Path(str(request.release)).exists():
        problems += scores.problems(parts, Path(request.release), request.folder)
    for kind, values in parts.items():
        problems += settings(kind, values, "audit" if len(parts) == 1 else f"audit.{kind}")[1]
    if problems:
        raise InvalidInput("The configuration", problems)
    return request


def knows_its_rows(request: AuditRequest) -> bool:
    """A run of ours leaves its configuration beside its release, which says how the table was split."""
    given = request.members or request.reference or request.nonmembers
    return not given and not request.foreign and (Path(request.release).resolve().parent / CONFIG).is_file()
