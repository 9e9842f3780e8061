"""Measures how fast things are, and what released rows are worth: `suite=speed`, `sequences`, `utility`."""

from __future__ import annotations

import json
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.errors import InvalidInput, Problem, nearest

from . import command_line
from .benchmarks import sequences, speed, utility

KEYS = ("suite", "rows", "tracking")
# each has Settings, checked_rows and measure
SUITES = {"speed": speed, "sequences": sequences, "utility": utility}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure; keys of conf/benchmark.yaml."""

    suite: speed.Settings | sequences.Settings | utility.Settings
    rows: tuple[str, ...]
    tracking: Any


def checked(node: DictConfig | dict[str, Any]) -> Request:
    """Checks the composed configuration; one `InvalidInput` with every problem."""
    from dpsynth.config import _section, parse_group

    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    problems = [Problem(key, "is not a known key.", nearest(key, KEYS)) for key in plain if key not in KEYS]
    tracking = parse_group("tracking", plain.get("tracking"), problems)
    asked = plain.get("suite")
    name = asked.get("name") if isinstance(asked, dict) else None
    if name not in SUITES:
        problems.append(Problem("suite.name", f"{name!r} is not a suite.", nearest(str(name), tuple(SUITES))))
    module = SUITES.get(name, speed)
    suite = _section(module.Settings, asked, "suite", problems)
    rows = ()
    try:
        rows = module.checked_rows(plain.get("rows"))
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput("The configuration", problems)
    return Request(suite=suite, rows=rows, tracking=tracking)


def main(node: DictConfig) -> None:
    """Prints the table as it grows, and records it."""
    from dpsynth.study.points import aligned
    from dpsynth.tracking import track

    request = checked(node)
    seen = "internal" if request.suite.name == "utility" else "public"
    figures, lines = [], []
    with track(
        request.tracking, f"benchmark {request.suite.name}", {"benchmark": request.suite.name}
    ) as tracker:
        tracker.params(_machine() | {f"suite.{key}": value for key, value in asdict(request.suite).items()})
        for row, found in SUITES[request.suite.name].measure(request.rows, request.suite):
            if isinstance(found, str):
                lines.append(f"{row}: skipped, {found}")
                print(lines[-1], flush=True)
                continue
            figures += found
            print(aligned([figure.cells() for figure in found]), flush=True)
            for figure in found:
                name = f"{seen}/{figure.row}/{_metric_name(figure.name)}"
                tracker.metric(name, figure.value)
                if figure.low is not None and request.suite.name == "utility":  # intervals over noise draws
                    tracker.metric(f"{name}/low", figure.low)
                    tracker.metric(f"{name}/high", figure.high)
        missed = [figure for figure in figures if figure.met is False]
        table = aligned([figure.cells() for figure in figures]) if figures else ""
        tracker.text("\n".join([table, *lines]), "benchmark.txt")
        tracker.text(json.dumps([asdict(figure) for figure in figures], indent=1), "benchmark.json")
        print(f"{len(missed)} of {sum(f.goal is not None for f in figures)} goals missed.")


def _metric_name(name: str) -> str:
    """A figure's name in the characters that MLflow takes."""
    return re.sub(r"[^\w.: -]+", "", name.replace(" / ", " over ").replace("=", " "))


def _machine() -> dict[str, str]:
    cpu = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpu.read_text()) if cpu.exists() else None
    return {
        "machine.processor": model.group(1) if model else platform.processor(),
        "machine.torch": version("torch"),
        "machine.python": platform.python_version(),
    }


if __name__ == "__main__":
    # Hydra reads rows=a,b as a sweep; here it is a list.
    sys.argv[1:] = [re.sub(r"^rows=([\w,]+)$", r"rows=[\1]", word) for word in sys.argv[1:]]
    command_line.run(main, "benchmark", checked=checked)
