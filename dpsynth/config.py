"""From a composed configuration to frozen dataclasses, strictly: every mistake is found, and shown at once.

Each group of `conf/` is described by the dataclass of the module that uses it. Domain code receives these
dataclasses and never sees a `DictConfig`. Checking a configuration reads no data and does not load
torch, so that a mistake answers at once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.generators import generator_names

SUBJECT = "The configuration"

# Which dataclass describes which group; these modules are light. A generator's `Config` is found by its name.
SECTIONS = {
    "data": ("dpsynth.data.tables.datasets", "DataConfig"),
    "privacy": ("dpsynth.privacy.configs", "PrivacyConfig"),
    "training": ("dpsynth.privacy.configs", "TrainingConfig"),
    "sweep": ("dpsynth.privacy.configs", "SweepConfig"),
    "release": ("dpsynth.privacy.release.signing", "ReleaseConfig"),
    "evaluation": ("dpsynth.evaluation.types", "EvaluationConfig"),
    "audit": ("dpsynth.audit.configs", "SmokeConfig"),
    "tracking": ("dpsynth.tracking", "TrackingConfig"),
}
# These change where a run is computed, watched and evaluated, not its mechanism, so they do not tell one run
# from another.
_NOT_IDENTITY = ("audit", "tracking", "sweep", "evaluation", "release")
_ELSEWHERE = {
    "training": ("threads", "checkpoint_every", "resident_mb", "physical_batch_size", "backend", "device"),
    "privacy": ("lifetime_epsilon", "lifetime_delta", "dataset", "dataset_ledger"),
}
_PATHS = ("data.path", "data.schema", "training.public_validation")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, completely described; public, because nothing in it comes from the private table.

    Args:
      data, generator, privacy, training, evaluation, audit, tracking, release: the groups of `conf/`.
      generator_name: the module in `dpsynth.generators`.
      seed: public; weights, latents and bootstraps. Never the privacy noise, nor who is set aside.
      holdout_share: of the units, set aside before training by secret coins; the claim covers all of them.
      num_rows: rows to release; None releases the bought count.
      canary_share: of the units, put to a secret coin each before training; half of them are left out.
      canary_constructed: made-up rows, put to a secret coin each; half of them are trained on.
    """

    data: Any
    generator_name: str
    generator: Any
    privacy: Any
    training: Any
    evaluation: Any
    audit: Any
    tracking: Any
    sweep: Any
    release: Any
    seed: int = 0
    holdout_share: float = 0.2
    num_rows: int | None = None
    canary_share: float = 0.0
    canary_constructed: int = 0

    @property
    def mark(self) -> str:
        """Names a point in its sweep: two trials of one configuration are two points."""
        return self.digest if self.sweep.trial is None else f"{self.digest}-{self.sweep.trial}"

    def flat(self) -> dict[str, Any]:
        """Returns every setting by its dotted key, as one types it on the command line."""
        return dict(_flatten(self.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """Returns nested plain data, shaped like `conf/`."""
        plain = dataclasses.asdict(self)
        plain["generator"] = {"name": plain.pop("generator_name"), **plain["generator"]}
        return plain

    @property
    def digest(self) -> str:
        """Names what the run releases: sha256 over `identity`."""
        return _sha256(identity(self.to_dict()))

    @property
    def complete(self) -> str:
        """Names what the run computes, figures included: sha256 over all but where it is tracked."""
        plain = self.to_dict()
        return _sha256({**identity(plain), "audit": plain["audit"], "evaluation": plain["evaluation"]})


def identity(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that decide what a run releases, by their dotted keys, paths spelled in full.

    Args:
      plain: as `RunConfig.to_dict` has it.
    """
    kept = {key: value for key, value in plain.items() if key not in _NOT_IDENTITY}
    for group, keys in _ELSEWHERE.items():
        kept[group] = {key: value for key, value in kept[group].items() if key not in keys}
    flat = json.loads(json.dumps(dict(_flatten(kept)), default=str))
    for key in _PATHS:
        if flat.get(key) and Path(flat[key]).exists():
            flat[key] = str(Path(flat[key]).resolve())
    return flat


def _sha256(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _type_problems(error: Any, where: str) -> list[Problem]:
    """Turns pydantic's errors into ours, one per key: a union reports each of its members."""
    found: dict[str, list] = {}
    for item in error.errors():
        path = [str(step) for step in item["loc"] if isinstance(step, int) or str(step).isidentifier()]
        found.setdefault(path[0] if path else "", []).append(item)
    problems = []
    for key, items in found.items():
        full = ".".join(part for part in (where, key) if part)
        first = items[0]
        if first["type"] == "missing":
            problems.append(Problem(full, "is missing.", f"Set {full}=VALUE."))
        elif first["type"] in ("value_error", "assertion_error"):
            cause = first["ctx"].get("error") if "ctx" in first else None
            problems.append(Problem(full, str(cause or first["msg"]), ""))
        else:
            wanted = " or ".join(dict.fromkeys(_wanted(item) for item in items))
            rule = f"Expected {wanted}, got {first['input']!r}."
            problems.append(Problem(full, rule, f"Set {full}=VALUE with such a value."))
    return problems


def _wanted(item: Mapping[str, Any]) -> str:
    """Says in the user's words what a pydantic error expected."""
    names = {
        "int_type": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "bool_type": "true or false",
        "string_type": "text",
        "tuple_type": "a list",
        "list_type": "a list",
        "dict_type": "a mapping",
        "none_required": "null",
    }
    if item["type"] == "literal_error":
        return item["ctx"]["expected"]
    return names.get(item["type"], item["msg"].removeprefix("Input should be ").lower())


def _section(cls: type, node: Any, where: str, problems: list[Problem], others: Iterable[str] = ()) -> Any:
    """Builds one dataclass from plain data; adds what is wrong to `problems` and then returns None.

    Args:
      others: further names that a mistyped key may have meant.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(node, Mapping):
        problems.append(Problem(where, f"Expected a group of settings, got {node!r}.", f"See conf/{where}/."))
        return None
    prefix = f"{where}." if where else ""
    fields = {field.name for field in dataclasses.fields(cls) if field.init}
    for key in node:
        if key not in fields:
            advice = nearest(str(key), sorted({*fields, *others}))
            problems.append(Problem(f"{prefix}{key}", "is not a known key.", advice))
    # Strict JSON mode: "3" is not a number and true is not 1, but a list may become a tuple.
    text = json.dumps({key: value for key, value in node.items() if key in fields})
    try:
        return TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        problems.extend(_type_problems(error, where))
    except InvalidInput as error:
        problems.extend(
            p if p.where.startswith(prefix) else dataclasses.replace(p, where=f"{prefix}{p.where}")
            for p in error.problems
        )
    return None


@dataclass(frozen=True, kw_only=True)
class _Top:
    """The settings that belong to no group."""

    seed: int
    holdout_share: float = 0.2
    num_rows: int | None = None
    canary_share: float = 0.0
    canary_constructed: int = 0

    def __post_init__(self):
        rules = [
            ("seed", self.seed >= 0, "to be at least 0", "It is public."),
            ("holdout_share", 0 <= self.holdout_share < 1, "in [0, 1)", "0.2 is usual."),
            ("canary_share", 0 <= self.canary_share <= 1, "in [0, 1]", "0.1 is usual."),
            ("canary_constructed", self.canary_constructed >= 0, "to be at least 0", "100 is usual."),
            (
                "num_rows",
                self.num_rows is None or self.num_rows >= 1,
                "to be at least 1",
                "null takes the count.",
            ),
        ]
        broken = [
            (key, f"Expected {key}={getattr(self, key)} {rule}.", fix)
            for key, ok, rule, fix in rules
            if not ok
        ]
        if broken:
            raise InvalidInput(SUBJECT, [Problem(*problem) for problem in broken])


def _generator(node: Any, problems: list[Problem]) -> tuple[str, Any]:
    """Builds the generator's own `Config`, found by the group's `name`."""
    plain = dict(node) if isinstance(node, Mapping) else {}
    name, known = plain.pop("name", None), generator_names()
    if name not in known:
        problems.append(Problem("generator", f"{name!r} is not a generator.", nearest(str(name), known)))
        return str(name), None
    cls = importlib.import_module(f"dpsynth.generators.{name}").Config
    return name, _section(cls, plain, "generator", problems)


@functools.cache
def _schema_problems(data: Any) -> tuple[Problem, ...]:
    from dpsynth.data.tables.datasets import load_schema

    try:
        load_schema(data)
    except InvalidInput as error:
        return error.problems
    return ()


def _check_schema(data: Any, problems: list[Problem]) -> None:
    """Checks what is declared about the table, its target among it; reads no row."""
    if data is not None:
        problems.extend(_schema_problems(data))


@functools.cache
def _fit_problems(name: str, data: Any) -> tuple[Problem, ...]:
    """Lists why a method does not fit what is declared about the table."""
    from dpsynth.data.tables.datasets import load_schema
    from dpsynth.methods import fit_problems

    return fit_problems(name, load_schema(data), generator_names())


def plain_data(node: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Returns what Hydra composed as plain nested data."""
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)


def parse_group(key: str, node: Any, problems: list[Problem]) -> Any:
    """Checks one group of `conf/` by itself; adds what is wrong to `problems` and then returns None."""
    module, name = SECTIONS[key]
    return _section(getattr(importlib.import_module(module), name), node, key, problems)


def parse(node: DictConfig | Mapping[str, Any]) -> RunConfig:
    """Checks a composed configuration and returns it as frozen dataclasses.

    Args:
      node: what Hydra composed, or plain nested data of the same shape.
    Raises:
      InvalidInput: lists everything that is wrong, with the nearest valid name.
    """
    problems: list[Problem] = []
    if isinstance(node, DictConfig):
        try:
            node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            where = getattr(error, "full_key", None) or SUBJECT
            problems.append(Problem(str(where), str(error).split("\n")[0] + ".", f"Set {where}=VALUE."))
            raise InvalidInput(SUBJECT, problems) from None
    optional = {key: {} for key in ("audit", "sweep", "tracking", "release")}
    plain = optional | {str(key): value for key, value in node.items()}
    groups = {*SECTIONS, "generator"}
    loose = {key: value for key, value in plain.items() if key not in groups}
    top = _section(_Top, loose, "", problems, others=groups)
    sections = {key: parse_group(key, plain.get(key), problems) for key in SECTIONS}
    _check_schema(sections["data"], problems)
    if sections["training"] is not None and sections["privacy"] is not None:
        problems.extend(sections["training"].ladder_problems(sections["privacy"]))
    name, generator = _generator(plain.get("generator"), problems)
    if not problems:
        problems.extend(_fit_problems(name, sections["data"]))
    if problems:
        raise InvalidInput(SUBJECT, problems)
    return RunConfig(**sections, generator_name=name, generator=generator, **vars(top))
