"""Compares a release, or another tool's table, with real rows: `python -m experiments.evaluate --help`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.study.real_rows import file_problems, find_real_rows

from .command_line import run

if TYPE_CHECKING:
    from dpsynth.evaluation.types import Evaluation

KEYS = ("release", "train", "holdout", "schema", "seed", "out", "evaluation")


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """What to compare; keys of conf/evaluate.yaml."""

    release: Path
    train: str | None
    holdout: str | None
    schema: str | None
    seed: int
    out: Path
    evaluation: Any


def checked(node: DictConfig | dict[str, Any]) -> EvaluateRequest:
    """Checks the composed configuration before anything is read; one `InvalidInput` with every problem."""
    from dpsynth.config import parse_group

    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    problems = [Problem(key, "Is not a known key.", nearest(key, KEYS)) for key in plain if key not in KEYS]
    settings = parse_group("evaluation", plain.get("evaluation"), problems)
    problems += file_problems(plain, ("train", "holdout", "schema"))
    release = Path(str(plain.get("release") or ""))
    if plain.get("release") is None:
        problems.append(Problem("release", "Is not given.", "Add release=DIR."))
    elif not release.exists():
        problems.append(Problem("release", f"No folder or file {str(release)!r}.", "Correct release."))
    elif release.is_file():
        for key in ("schema", "train", "holdout"):
            if plain.get(key) is None:
                problems.append(Problem(key, "Is not given.", f"A bare table needs {key}=FILE."))
    if (plain.get("train") is None) != (plain.get("holdout") is None) and not release.is_file():
        problems.append(Problem("train", "Comes with holdout, or not at all.", "Give both files."))
    if not isinstance(plain.get("seed"), int) or plain["seed"] < 0:
        problems.append(Problem("seed", f"{plain.get('seed')!r} is not a number from 0 on.", "Set seed=0."))
    if problems:
        raise InvalidInput("The configuration", problems)
    out = Path(plain["out"]) if plain.get("out") else release.resolve().parent / "evaluation.json"
    named = {key: plain.get(key) for key in ("train", "holdout", "schema")}
    return EvaluateRequest(release=release, seed=plain["seed"], out=out, evaluation=settings, **named)


def evaluation_of(request: EvaluateRequest) -> Evaluation:
    """Reads the tables and compares them."""
    from dpsynth.data.schema import Schema
    from dpsynth.data.tables.io import read_table
    from dpsynth.evaluation.metrics import evaluate
    from dpsynth.report.release_files import read_release

    if request.release.is_file():
        schema = Schema.load(request.schema)
        synthetic = read_table(request.release, schema)
    else:
        release = read_release(request.release)
        schema = release.schema if request.schema is None else Schema.load(request.schema)
        synthetic = release.synthetic
    reason = f"evaluation of {request.release}"
    train, holdout = find_real_rows(request.release, schema, request.train, request.holdout, reason)
    if train is None or holdout is None:
        fix = "Add train=FILE holdout=FILE."
        raise InvalidInput(
            str(request.release), [Problem("real rows", "No config.yaml beside the release.", fix)]
        )
    return evaluate(synthetic, train, holdout, schema, request.evaluation, request.seed)


def main(node: DictConfig) -> None:
    """Prints the figures and keeps them as JSON."""
    from dpsynth.report import names
    from dpsynth.study.points import aligned

    request = checked(node)
    found = evaluation_of(request)
    rows = []
    for metric in found.metrics:
        interval = "" if metric.lower is None else f"[{metric.lower:.4f}, {metric.upper:.4f}]"
        rows.append([names.label(metric.name), f"{metric.value:.4f}", interval, metric.visibility])
    print(aligned(rows))
    request.out.parent.mkdir(parents=True, exist_ok=True)
    request.out.write_text(json.dumps(found.to_dict(), indent=1, allow_nan=False), encoding="utf-8")
    print(f"Internal: {request.out}")


if __name__ == "__main__":
    run(main, "evaluate", checked=checked)
