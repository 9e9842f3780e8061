"""Schema files: YAML text to a `Schema` and back, with one message for everything wrong in a file.

Scalars follow YAML 1.2, so that `no` is text and not false, `010` is text and not eight, and
`2020-01-31` is text and not a date; everything else is PyYAML's safe subset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from dpsynth.data.schema.columns import KINDS, Column
from dpsynth.data.schema.schema import Schema, Sequence, Unit
from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.places import command

_SCALARS = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}


_TABLES = (".csv", ".tsv", ".gz", ".parquet", ".pq")


class _Loader(yaml.SafeLoader):
    """Reads scalars as YAML 1.2 does and refuses a key that is given twice."""

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if isinstance(key, (dict, list)) or keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        """Escapes line breaks of every script inside double quotes; the other styles fold them."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


class _TextLoader(yaml.BaseLoader):
    """Reads every scalar as text, but for an unquoted null."""

    yaml_implicit_resolvers: dict = {}


_TextLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_TextLoader.add_constructor("tag:yaml.org,2002:null", lambda loader, node: None)


def load_plain_text(text: str, subject: str) -> Any:
    """Reads YAML or JSON in which names and values are text; raises `InvalidInput` where it is neither."""
    try:
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506, builds lists, mappings and text alone
    except yaml.YAMLError:
        raise _refused(subject, "Is neither YAML nor JSON.", "Correct it.") from None


def load_schema(path: str | Path) -> Schema:
    """Reads a schema file.

    Raises:
      InvalidInput: no such file, not UTF-8, not YAML, or a list of every rule that it breaks.
    """
    path = Path(path)
    if path.suffix.lower() in _TABLES:  # an error would quote its rows
        raise _refused(path, "Is a table.", "Give the schema, and the table as data.path.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # noqa: S506, a SafeLoader
    except FileNotFoundError:
        raise _refused(path, "No such file.", f"Draft one with {command('schema')}.") from None
    except UnicodeDecodeError:
        raise _refused(path, "Is not UTF-8 text.", "Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        rule = f"Is not YAML: {getattr(error, 'problem', None) or 'unreadable'}{place}."
        raise _refused(path, rule, "Correct the file.") from None
    return parse_schema(content, str(path))


def parse_schema(content: Any, subject: str) -> Schema:
    """Builds a schema from a file's content and reports every problem in it at once.

    Raises:
      InvalidInput: unknown keys with the nearest valid name, missing keys, and every broken rule.
    """
    if not isinstance(content, Mapping):
        raise _refused(subject, "Is not a mapping with version and columns.", "Draft a schema.")
    problems = list(_unknown(content, Schema, subject="schema"))
    known = {key: content[key] for key in content if key in _keys(Schema)}
    if "version" not in known:
        problems.append(Problem("version", "Is missing.", "Write version: 1."))
    columns, found = _columns(known.pop("columns", None))
    problems += found
    for key, cls in (("unit", Unit), ("sequence", Sequence)):
        part = known.get(key)
        if part is None:
            known.pop(key, None)
        elif isinstance(part, Mapping):
            problems += _unknown(part, cls, subject=key)
            known[key] = cls(**{k: v for k, v in part.items() if k in _keys(cls)})
        else:
            problems.append(Problem(key, "Is not a mapping.", f"Its keys are {', '.join(_keys(cls))}."))
            known.pop(key)
    if known.get("missing") is not None and not isinstance(known["missing"], (list, tuple)):
        known["missing"] = (known["missing"],)
    try:
        schema = Schema(columns=columns, **known)
    except InvalidInput as error:
        problems += [problem for problem in error.problems if not _follows(problem, found, content)]
        raise InvalidInput(subject, problems) from None
    if problems:
        raise InvalidInput(subject, problems)
    return schema


def to_yaml(schema: Schema, head: str = "", remarks: Mapping[str, str] | None = None) -> str:
    """Writes a schema as YAML, one line per column, each with its remark as a comment."""
    content = schema.to_dict()
    columns = content.pop("columns")
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    lines += [f"{key}: {_inline(value)}" for key, value in content.items()] + ["columns:"]
    for column in columns:
        remark = (remarks or {}).get(column["name"])
        lines.append(f"  - {_inline(column)}" + (f"  # {remark}" if remark else ""))
    return "\n".join(lines) + "\n"


def _columns(content: Any) -> tuple[tuple[Column, ...], list[Problem]]:
    """Reads the list of columns; one that cannot be made is left out and reported."""
    if not isinstance(content, list):
        return (), [Problem("columns", "Is not a list.", "Write one `- {name: ..., kind: ...}` per column.")]
    columns, problems = [], []
    for number, item in enumerate(content, 1):
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            fix = "Write `- {name: ..., kind: ...}`, names in quotes where they are no words."
            problems.append(Problem(f"column number {number}", "Has no name in text.", fix))
            continue
        where, kind = f"column {item['name']!r}", item.get("kind")
        if kind not in KINDS:
            fix = nearest(str(kind), KINDS)
            problems.append(Problem(where, f"kind={kind!r} is unknown.", fix))
            continue
        given = {key: value for key, value in item.items() if key != "kind"}
        problems += _unknown(given, KINDS[kind], subject=where)
        columns.append(KINDS[kind](**{k: v for k, v in given.items() if k in _keys(KINDS[kind])}))
    return tuple(columns), problems


def _follows(problem: Problem, found: list[Problem], content: Mapping) -> bool:
    """Says whether a problem only follows from columns that could not be read: then it is no second one."""
    if not found or problem.where == "columns":
        return bool(found)
    listed = content.get("columns") if isinstance(content.get("columns"), list) else []
    named = [item.get("name") for item in listed if isinstance(item, Mapping)]
    unit = content.get("unit") if isinstance(content.get("unit"), Mapping) else {}
    referred = {"target": content.get("target"), "unit.column": unit.get("column")}
    return not listed or (problem.where in referred and referred[problem.where] in named)


def _unknown(content: Mapping, cls: type, subject: str) -> list[Problem]:
    keys = _keys(cls)
    unknown = [str(key) for key in content if key not in keys]
    return [Problem(subject, f"Unknown key {k!r}.", nearest(k, keys)) for k in unknown]


def _keys(cls: type) -> list[str]:
    return [f.name for f in fields(cls)]


def _inline(value: Any) -> str:
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _refused(subject: object, rule: str, fix: str) -> InvalidInput:
    return InvalidInput(str(subject), [Problem("file", rule, fix)])
