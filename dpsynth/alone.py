"""One definition of a module, without running the rest of it.

A generator's settings stand in the file of its method, which imports torch; a mistyped setting should not
have to wait for that.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def _names(statement: ast.stmt) -> set[str]:
    """Returns the names that a definition needs to be made and checked.

    Of a class that leaves out methods that neither Python calls (`__post_init__`) nor a method that counts.
    """

    def read(parts: Iterable[ast.AST]) -> set[str]:
        names = (node for part in parts for node in ast.walk(part) if isinstance(node, ast.Name))
        return {node.id for node in names if isinstance(node.ctx, ast.Load)}

    if not isinstance(statement, ast.ClassDef):
        return read([statement])
    methods = {part.name: part for part in statement.body if isinstance(part, ast.FunctionDef)}
    parts = [*statement.decorator_list, *statement.bases, *statement.keywords]
    parts += [part for part in statement.body if getattr(part, "name", "__").startswith("__")]
    for part in parts:  # grows while it is read
        called = {node.attr for node in ast.walk(part) if isinstance(node, ast.Attribute)}
        parts += [methods[name] for name in methods if name in called and methods[name] not in parts]
    return read(parts)


def _needed(tree: ast.Module, name: str) -> tuple[list[ast.stmt], list[tuple[str, ast.alias]]]:
    """Keeps of a module what its definition `name` uses, by name; imports from the package come apart."""
    keep, borrowed, wanted = [], [], {name}
    for statement in reversed(tree.body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            use = statement.name in wanted
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            bound = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            use = bool(bound & wanted)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names = {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
            use = bool(names & wanted) or getattr(statement, "module", None) == "__future__"
            if use and isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("dpsynth."):
                names = [alias for alias in statement.names if (alias.asname or alias.name) in wanted]
                borrowed += [(statement.module, alias) for alias in names]
                use = False
        else:
            use = False
        if use:
            keep.append(statement)
            wanted |= _names(statement)
    return keep[::-1], borrowed


def _origin(module: str, name: str) -> str:
    """Returns the file of a module; of a folder the one that defines `name`."""
    origin = Path(importlib.util.find_spec(module).origin)
    if origin.name == "__init__.py":
        for file in sorted(origin.parent.glob("*.py")):
            if re.search(rf"^class {name}\b", file.read_text(encoding="utf-8"), re.MULTILINE):
                return str(file)
    return str(origin)


@functools.cache
def alone(module: str, name: str) -> Any:
    """Returns the class or function `name` of `module` without running the rest of that module.

    What the definition uses is compiled with it, also from other files of the package. A module that is
    loaded already gives its own.
    """
    if module in sys.modules:
        return getattr(sys.modules[module], name)
    origin = _origin(module, name)
    statements, borrowed = _needed(ast.parse(Path(origin).read_text(encoding="utf-8")), name)
    home = types.ModuleType(f"{__name__}.alone.{module}.{name}")
    sys.modules[home.__name__] = home  # where dataclasses and pydantic look annotations up
    for source, alias in borrowed:
        setattr(home, alias.asname or alias.name, alone(source, alias.name))
    exec(compile(ast.Module(statements, []), origin, "exec"), home.__dict__)
    return getattr(home, name)


@functools.cache
def stated(module: str, owner: str, name: str) -> str:
    """Returns the text of what class `owner` of `module` assigns to `name`, without importing the module."""
    origin = _origin(module, owner)
    for statement in ast.parse(Path(origin).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ClassDef) and statement.name == owner:
            for part in statement.body:
                target = getattr(part, "target", None) or getattr(part, "targets", [None])[0]
                if getattr(target, "id", None) == name:
                    return ast.unparse(part.value)
    raise AttributeError(f"{owner} in {module} does not say what its {name} is.")
