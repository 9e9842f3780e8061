"""The layout by trust, held up by the imports: who may import whom, and what may appear where."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 350

# A package may import itself and these. Files at the top of the package are keyed by their own names.
ALLOWED = {
    "dpsynth": set(),
    "dpsynth.errors": set(),
    "dpsynth.files": set(),
    "dpsynth.methods": {"dpsynth.errors", "dpsynth.generators", "dpsynth.data"},
    "dpsynth.places": set(),
    "dpsynth.__main__": {"dpsynth", "dpsynth.errors", "dpsynth.places"},
    "dpsynth.types": set(),
    "dpsynth.data": {"dpsynth.errors", "dpsynth.types", "dpsynth.places"},
    "dpsynth.privacy": {"dpsynth.errors", "dpsynth.files", "dpsynth.types", "dpsynth.data"},
    "dpsynth.generators": {"dpsynth.errors", "dpsynth.types", "dpsynth.data"},
    "dpsynth.evaluation": {"dpsynth.errors", "dpsynth.types", "dpsynth.data"},
    "dpsynth.recipe": {"dpsynth.errors", "dpsynth.privacy", "dpsynth.generators"},
    "dpsynth.planning": {
        "dpsynth.errors",
        "dpsynth.methods",
        "dpsynth.recipe",
        "dpsynth.data",
        "dpsynth.privacy",
        "dpsynth.generators",
    },
    # Checks from outside what the pipeline made: of all files in `privacy/` it alone stands behind it.
    "dpsynth.privacy.verify": {
        "dpsynth",
        "dpsynth.errors",
        "dpsynth.data",
        "dpsynth.privacy",
        "dpsynth.generators",
        "dpsynth.pipeline",
        "dpsynth.recipe",
    },
    "dpsynth.pipeline": {
        "dpsynth",
        "dpsynth.recipe",
        "dpsynth.errors",
        "dpsynth.planning",
        "dpsynth.types",
        "dpsynth.data",
        "dpsynth.privacy",
        "dpsynth.generators",
    },
    "dpsynth.timeseries": {
        "dpsynth",
        "dpsynth.errors",
        "dpsynth.files",
        "dpsynth.types",
        "dpsynth.data",
        "dpsynth.privacy",
        "dpsynth.generators",
        "dpsynth.pipeline",
    },
    "dpsynth.audit": {
        "dpsynth.errors",
        "dpsynth.files",
        "dpsynth.types",
        "dpsynth.data",
        "dpsynth.privacy",
        "dpsynth.generators",
        "dpsynth.pipeline",
    },
    "dpsynth.config": {
        "dpsynth.errors",
        "dpsynth.generators",
        "dpsynth.methods",
        "dpsynth.data",
        "dpsynth.places",
    },
    "dpsynth.serving": {"dpsynth.errors", "dpsynth.pipeline", "dpsynth.privacy"},
    "dpsynth.tracking": {"dpsynth.errors", "dpsynth.files", "dpsynth.data", "dpsynth.serving"},
    "dpsynth.report": {
        "dpsynth.errors",
        "dpsynth.files",
        "dpsynth.types",
        "dpsynth.data",
        "dpsynth.evaluation",
    },
    "dpsynth.study": {
        "dpsynth",
        "dpsynth.audit",
        "dpsynth.config",
        "dpsynth.data",
        "dpsynth.errors",
        "dpsynth.evaluation",
        "dpsynth.files",
        "dpsynth.generators",
        "dpsynth.methods",
        "dpsynth.pipeline",
        "dpsynth.places",
        "dpsynth.planning",
        "dpsynth.privacy",
        "dpsynth.privacy.verify",
        "dpsynth.recipe",
        "dpsynth.report",
        "dpsynth.tracking",
    },
    "dpsynth.study.audit": {
        "dpsynth",
        "dpsynth.audit",
        "dpsynth.config",
        "dpsynth.data",
        "dpsynth.errors",
        "dpsynth.evaluation",
        "dpsynth.files",
        "dpsynth.generators",
        "dpsynth.methods",
        "dpsynth.pipeline",
        "dpsynth.places",
        "dpsynth.planning",
        "dpsynth.privacy",
        "dpsynth.privacy.verify",
        "dpsynth.recipe",
        "dpsynth.report",
        "dpsynth.tracking",
        "dpsynth.study",
    },
}
# Inside a package, a room may import itself and these; arrows run one way. "*" stands for every other room.
ROOMS = {
    "dpsynth.data": {
        "wording": "",
        "schema": "",
        "bought": "schema",
        "units": "schema bought",
        "rows": "schema bought units",
        "sequences": "schema bought units rows",
        "tables": "schema units",
    },
    "dpsynth.privacy": {
        "configs": "",
        "accounting": "",
        "noise": "",
        "plan": "configs accounting",
        "ledger": "configs accounting plan",
        "measuring": "noise plan ledger",
        "training": "configs noise plan ledger",
        "release": "accounting noise plan ledger",
        "many_runs": "configs accounting noise plan ledger training release",
        "verify": "configs accounting noise plan ledger measuring release many_runs",
    },
    "dpsynth.generators": {
        "parts": "",
        "base": "parts",
        "marginals": "base parts",
        "*": "base parts marginals",
    },
}
# Where a library may be named at all.
LIBRARIES = {
    "mlflow": {"dpsynth.tracking"},
    "hydra": {"dpsynth.config", "experiments"},
    "omegaconf": {"dpsynth.config", "experiments"},
    "pydantic": {"dpsynth.config", "dpsynth.recipe"},
    "opacus": {"dpsynth.privacy", "experiments.benchmarks"},
    "dp_accounting": {"dpsynth.privacy", "experiments.benchmarks"},
    "opendp": {"dpsynth.privacy"},
    "randomgen": {"dpsynth.privacy"},
    "torch": {
        "dpsynth.privacy",
        "dpsynth.generators",
        "dpsynth.pipeline",
        "dpsynth.timeseries",
        "dpsynth.audit",
        "experiments.benchmarks",
    },
}
MEASURED = {"torch", "opacus", "dp_accounting"}  # the benchmarks time these by themselves
# Calls that would void the guarantee or make a release unsafe to open.
FORBIDDEN_CALLS = {
    "manual_seed": "noise and coins would follow a seed; use a torch.Generator of its own",
    "manual_seed_all": "noise and coins would follow a seed",
    "seed": "seeds a global generator; use numpy's default_rng or a torch.Generator",
    "set_rng_state": "rewinds a global generator",
}
# Seeds of torch's global generator are for public draws, and only where the caller's state comes back after:
# inside `fork_rng`, and in these modules, which run inside the training core's `fork_rng`.
INSIDE_FORK = {"dpsynth.privacy.training.unit_separation", "dpsynth.privacy.training.checkpoint"}
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# Where the order of rows is what a module is about; all others ask `units_of(schema)` what a unit is.
KIND_HOMES = ("dpsynth.data.schema", "dpsynth.data.schema.sdv", "dpsynth.data.unit", "dpsynth.data.sequence")
KIND_HOMES += ("dpsynth.generators.sequence_", "dpsynth.evaluation.panel", "dpsynth.evaluation.sequences")
KIND_HOMES += ("dpsynth.report.sequences", "dpsynth.timeseries", "experiments.benchmarks.peers")
RECEIPT_HOME = "dpsynth.privacy.ledger.ledger"


def module_name(path: Path, root: Path = ROOT) -> str:
    """Returns the dotted name of a file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(module: str) -> str:
    """Returns the part of the layout that a module belongs to, the longest that matches."""
    parts = (*ALLOWED, "experiments", "experiments.benchmarks")
    known = [name for name in parts if module == name or module.startswith(name + ".")]
    return max(known, key=len, default=module)


def imports(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[tuple[str, int]]:
    """Yields every module that a file imports, anywhere in it, except for type checkers alone."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                steps = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*steps, *([base] if base else [])])
            # `from dpsynth import tracking` names a module in its list.
            yield from (
                (f"{base}.{alias.name}" if base == "dpsynth" or base in ROOMS else base, node.lineno)
                for alias in node.names
            )


def crossing(module: str, target: str) -> str | None:
    """Returns what is wrong with an import from one room of a package into another; None if nothing is."""
    for package, rooms in ROOMS.items():
        if not (module.startswith(f"{package}.") and target.startswith(f"{package}.")):
            continue
        here, there = (name.removeprefix(f"{package}.").split(".")[0] for name in (module, target))
        allowed = rooms.get(here, rooms.get("*"))
        if allowed is None:
            return f"{package}.{here} has no rule"
        home = ROOT / package.replace(".", "/") / there
        is_room = home.is_dir() or home.with_suffix(".py").is_file()  # else a name in the package itself
        if is_room and here != there and there not in allowed.split():
            return f"{package}.{here} may not look into {there}"
    return None


def import_violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Returns imports that the layout forbids."""
    home, found, tree = part(module), [], ast.parse(source)
    absolute = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    absolute |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    measures = module.startswith("experiments.benchmark")
    for target, line in imports(tree, module, is_package):
        root = target.split(".")[0]
        if root == "experiments" and not home.startswith("experiments"):
            found.append(f"{module}:{line} imports {target}: nothing but experiments may")
        if root == "experiments" and home.startswith("experiments") and target in absolute:
            found.append(
                f"{module}:{line} imports {target}: by a dot, since the wheel calls it dpsynth.commands"
            )
        if root == "dpsynth" and home in ALLOWED:
            to = part(target)
            if to != home and to not in ALLOWED[home]:
                found.append(f"{module}:{line} imports {target}: {home} may not")
        if wrong := crossing(module, target):
            found.append(f"{module}:{line} imports {target}: {wrong}")
        if root in LIBRARIES and home not in LIBRARIES[root] and not (root in MEASURED and measures):
            found.append(f"{module}:{line} imports {root}: only {sorted(LIBRARIES[root])} may")
        if root in FORBIDDEN_MODULES and module.startswith("dpsynth"):
            found.append(f"{module}:{line} imports {root}: nothing here runs code from a file")
    return found


def call_violations(source: str, module: str) -> list[str]:
    """Returns calls that no module may make, and receipts made outside the ledger."""
    found, tree = [], ast.parse(source)
    forked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        of_torch = owner in ("torch", "torch.random", "torch.cuda")
        globally = of_torch or owner in ("np.random", "numpy.random", "random")
        restored = of_torch and (id(node) in forked or module in INSIDE_FORK)
        if name in FORBIDDEN_CALLS and globally and not restored:
            found.append(f"{module}:{node.lineno} calls {owner}.{name}: {FORBIDDEN_CALLS[name]}")
        if name == "Receipt" and module != RECEIPT_HOME:
            found.append(f"{module}:{node.lineno} makes a Receipt: only {RECEIPT_HOME} may, after a charge")
        if (
            name == "load"
            and owner == "torch"
            and not any(
                k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords
            )
        ):
            found.append(
                f"{module}:{node.lineno} calls torch.load without weights_only=True: it would unpickle"
            )
    return found


def kind_violations(source: str, module: str) -> list[str]:
    """Returns places that look at a schema to learn what a unit of privacy is."""
    if module.startswith(KIND_HOMES):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        asked = isinstance(node, ast.Attribute) and node.attr in ("sequence", "sequential")
        if isinstance(node, ast.Compare):
            sides = {ast.unparse(side) for side in (node.left, *node.comparators)}
            asked = "None" in sides and any(side.endswith("unit.column") for side in sides)
        if isinstance(node, ast.Constant):
            asked = node.value == "sequential"
        if asked:
            found.append(f"{module}:{node.lineno} asks {ast.unparse(node)}: ask units_of(schema)")
    return found


def sources() -> list[Path]:
    return sorted([*ROOT.glob("dpsynth/**/*.py"), *ROOT.glob("experiments/**/*.py")])


@pytest.mark.parametrize("path", sources(), ids=lambda path: module_name(path))
def test_each_module_keeps_to_its_place(path):
    source, module = path.read_text(encoding="utf-8"), module_name(path)
    found = import_violations(source, module, path.name == "__init__.py") + call_violations(source, module)
    found += kind_violations(source, module)
    lines = source.count("\n")
    if lines > MOST_LINES:
        found.append(f"{module} has {lines} lines, more than {MOST_LINES}: split it")
    assert not found, "\n".join(found)


def test_every_package_has_a_rule():
    packages = {f"dpsynth.{path.parent.name}" for path in ROOT.glob("dpsynth/*/__init__.py")}
    top = {f"dpsynth.{path.stem}" for path in ROOT.glob("dpsynth/*.py") if path.stem != "__init__"}
    assert packages | top <= set(ALLOWED)


def test_every_room_has_a_rule():
    for package, rooms in ROOMS.items():
        folder = ROOT / package.replace(".", "/")
        found = {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
        found |= {path.parent.name for path in folder.glob("*/__init__.py")}
        assert found <= set(rooms) or "*" in rooms, package
        assert set(rooms) - {"*"} <= found, package


PLANTED = {
    "evaluation reaches into privacy": ("dpsynth.evaluation.x", "from dpsynth.privacy.ledger import ledger"),
    "generator imports the ledger lazily": (
        "dpsynth.generators.x",
        "def f():\n    import dpsynth.privacy.ledger.ledger",
    ),
    "privacy imports a generator relatively": ("dpsynth.privacy.x", "from ..generators import ctgan"),
    "data imports the pipeline": ("dpsynth.data.x", "from dpsynth import pipeline"),
    "the pipeline logs to MLflow": ("dpsynth.pipeline", "import mlflow.tracking"),
    "a generator uses opacus": ("dpsynth.generators.x", "from opacus import PrivacyEngine"),
    "domain code takes a DictConfig": ("dpsynth.privacy.x", "from omegaconf import DictConfig"),
    "evaluation imports an entry point": ("dpsynth.evaluation.x", "from experiments.train import main"),
    "an entry point imports another by name": ("experiments.x", "from experiments.train import recipe_of"),
    "evaluation uses torch": ("dpsynth.evaluation.x", "import torch"),
    "a model is pickled": ("dpsynth.privacy.x", "import pickle"),
    "bought cells look into an encoder": (
        "dpsynth.data.bought.x",
        "from dpsynth.data.rows.encoder import TableEncoder",
    ),
    "the plan reads the ledger": ("dpsynth.privacy.plan.x", "from dpsynth.privacy.ledger import lines"),
    "the plan takes a room by name": ("dpsynth.privacy.plan.x", "from dpsynth.privacy import ledger"),
    "training asks a release lazily": (
        "dpsynth.privacy.training.x",
        "def f():\n    from dpsynth.privacy.release.verify import verify",
    ),
    "a method borrows from another": (
        "dpsynth.generators.tvae.x",
        "from dpsynth.generators.ctgan.conditions import Conditions",
    ),
    "a room without a rule": ("dpsynth.data.attic.x", "from dpsynth.data.schema import axis"),
    "a study imports a command": ("dpsynth.study.x", "from experiments.train import job"),
    "what runs leave behind knows of audits": (
        "dpsynth.study.points",
        "from dpsynth.study.audit import material",
    ),
}


@pytest.mark.parametrize("case", PLANTED, ids=str)
def test_a_planted_import_is_caught(case):
    module, source = PLANTED[case]
    assert len(import_violations(source, module)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.manual_seed(0)",
        "np.random.seed(seed)",
        "random.seed(1)",
        "from dpsynth.data.tables.table import Receipt\nr = Receipt(ledger_id='', event_index=0, label='')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_a_planted_call_is_caught(source):
    assert len(call_violations(source, "dpsynth.privacy.training.train")) == 1


def test_what_is_allowed_is_not_reported():
    source = (
        "import torch\nfrom dpsynth.data.schema import Schema\nfrom dpsynth.errors import Problem\n"
        "draw = torch.Generator().manual_seed(0)\nstate = torch.load(path, weights_only=True)\n"
        "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)\n"
    )
    assert not import_violations(source, "dpsynth.generators.x") + call_violations(
        source, "dpsynth.generators.x"
    )
    assert not call_violations("r = Receipt(ledger_id='')", RECEIPT_HOME)
    hints = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dpsynth.privacy.ledger import ledger\n"
    )
    assert not import_violations(hints, "dpsynth.generators.x")


HEAVY = ["torch", "opacus", "mlflow", "sklearn", "dp_accounting", "opendp", "matplotlib", "plotly", "scipy"]
LIGHT = [
    "dpsynth",
    "dpsynth.__main__",
    "dpsynth.errors",
    "dpsynth.files",
    "dpsynth.config",
    "dpsynth.tracking",
    "experiments.command_line",
]


def test_light_modules_load_nothing_heavy():
    code = (
        f"import importlib, json, sys\nfor name in {LIGHT!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {[*HEAVY, 'pandas']!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    "source",
    [
        "if schema.sequence is None:\n    weight = 1",
        "rows = schema.sequence.max_length",
        "if schema.unit.column is not None:\n    entities()",
        "ordered = getattr(method, 'sequential', False)",
        "ordered = method.sequential",
    ],
)
def test_a_second_owner_of_the_unit_is_caught(source):
    assert len(kind_violations(source, "dpsynth.privacy.plan.plan")) == 1
    assert not kind_violations(source, "dpsynth.data.units.units")
