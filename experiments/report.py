"""Writes the report of a release or a sweep: `python -m experiments.report release=DIR`, or `sweep=ID`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.errors import DpsynthError, InvalidInput, Problem, nearest
from dpsynth.study.points import EVIDENCE, FINISHED, RESULT, Point, collect, evidence, near, table
from dpsynth.study.real_rows import file_problems, find_real_rows

from .command_line import run
from .registry import ENDINGS, write_entry

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.evaluation.types import Evaluation
    from dpsynth.report.document import Document

KEYS = ("release", "sweep", "real", "train", "holdout", "out", "report", "tracking", "registry")


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What to report on; keys of conf/report.yaml. Exactly one of `release` and `sweep` is given."""

    release: Path | None
    sweep: str | None
    real: bool
    train: str | None
    holdout: str | None
    out: Path | None
    limits: dict[str, int]
    tracking: Any
    registry: Path | None = None


def checked(node: DictConfig | dict[str, Any]) -> ReportRequest:
    """Checks the composed configuration before anything is read; one `InvalidInput` with every problem."""
    from dpsynth.config import parse_group

    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    problems = [Problem(key, "Is not a known key.", nearest(key, KEYS)) for key in plain if key not in KEYS]
    tracking = parse_group("tracking", plain.get("tracking"), problems)
    problems += file_problems(plain, ("train", "holdout"))
    release, sweep = plain.get("release"), plain.get("sweep")
    if (release is None) == (sweep is None):
        problems.append(Problem("release", "Give either release or sweep.", "Add release=DIR or sweep=ID."))
    elif release is not None and not Path(str(release)).is_dir():
        problems.append(Problem("release", f"No folder {release!r}.", "Correct release."))
    if not isinstance(plain.get("real"), bool):
        problems.append(Problem("real", f"{plain.get('real')!r} is not true or false.", "Set real=true."))
    registry = plain.get("registry")
    if registry is not None and (release is None or not str(registry).endswith(ENDINGS)):
        rule = "Is written of a release, to a file that says its format."
        problems.append(Problem("registry", rule, f"Give release=DIR; end it in {', '.join(ENDINGS)}."))
    limits = plain.get("report") or {}
    for key, value in limits.items():
        if not isinstance(value, int) or value < (key != "seed"):
            problems.append(Problem(f"report.{key}", f"{value!r} is not a number from 1 on.", "Raise it."))
    if problems:
        raise InvalidInput("The configuration", problems)
    return ReportRequest(
        release=None if release is None else Path(release),
        sweep=None if sweep is None else str(sweep),
        real=plain["real"],
        train=plain.get("train"),
        holdout=plain.get("holdout"),
        out=Path(plain["out"]) if plain.get("out") else None,
        limits=limits,
        tracking=tracking,
        registry=Path(str(registry)) if registry is not None else None,
    )


def release_document(request: ReportRequest) -> Document:
    """Composes the report of a release from its files and, unless told not to, from what lies beside it."""
    from dpsynth.report.material import ReportConfig
    from dpsynth.report.page import release_report
    from dpsynth.report.release_files import read_release

    config = ReportConfig(**request.limits)
    if not request.real:
        return release_report(request.release, config=config)
    schema = read_release(request.release).schema
    reason = f"report on {request.release}"
    train, holdout = find_real_rows(request.release, schema, request.train, request.holdout, reason)
    beside = request.release.resolve().parent
    return release_report(
        request.release,
        train=train,
        holdout=holdout,
        evaluation=_evaluation(beside),
        audits=_audits(beside),
        audit_pictures={
            path.stem.replace("_", " "): path.read_bytes() for path in sorted(beside.glob("audit/*.png"))
        },
        config=config,
    )


def _evaluation(beside: Path) -> Evaluation | None:
    """Figures that `experiments.evaluate` left beside the release, else those of the run."""
    from dpsynth.evaluation.types import Evaluation

    if (beside / "evaluation.json").is_file():
        return Evaluation.from_dict(json.loads((beside / "evaluation.json").read_text(encoding="utf-8")))
    if (beside / RESULT).is_file():
        return Evaluation.from_dict(Point.load(beside / RESULT).evaluation)
    return None


def _audits(beside: Path) -> list[dict[str, Any]]:
    """Results of the audit that the run ended with, and of those asked for afterwards."""
    files = sorted(beside.glob("audit*/audit.json"))
    return [part for file in files for part in json.loads(file.read_text(encoding="utf-8"))["results"]]


def sweep_document(request: ReportRequest) -> tuple[Document, Path]:
    """Composes the report of a sweep from its folder, or from MLflow where the folder is elsewhere."""
    import pandas as pd

    from dpsynth import tracking
    from dpsynth.report.material import ReportConfig
    from dpsynth.report.page import sweep_report

    folder, title = Path(request.sweep), f"Sweep {request.sweep}"
    if not folder.is_dir():
        folder = Path(tracking.tags_of(request.tracking, request.sweep).get("sweep.folder", ""))
    config = ReportConfig(**request.limits)
    points = collect(folder) if folder.is_dir() and str(folder) != "." else []
    if points:
        document = sweep_report(
            table(points),
            title=title,
            costs=_costs(folder),
            runs=pd.DataFrame([_row(p) for p in points if p.status == FINISHED]),
            failed=pd.DataFrame([_row(p) for p in points if p.status != FINISHED]),
            evidence=evidence(points),
            config=config,
        )
        return document, folder
    with tempfile.TemporaryDirectory() as place:
        figures = tracking.fetch(request.tracking, request.sweep, "internal/frontier/figures.csv", place)
        if figures is None:
            raise DpsynthError(f"{request.sweep} has no finished point, here or in {request.tracking.uri}.")
        drawn = tracking.fetch(request.tracking, request.sweep, f"internal/frontier/{EVIDENCE}", place)
        picture = None if drawn is None else drawn.read_bytes()
        document = sweep_report(_figures(figures), title=title, evidence=picture, config=config)
        return document, Path.cwd()


def _figures(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path)


def _row(point: Point) -> dict[str, Any]:
    row = {"generator": point.generator, "claim": point.claim, "seed": point.seed}
    if point.status == FINISHED:
        release = near(point.release) if point.release else ""
        return row | {"seconds": round(sum(point.seconds.values()), 1), "release": release}
    return row | {"error": (point.error or "").split("\n")[0]}


def _costs(folder: Path) -> dict[str, str]:
    """What publishing costs, by statement."""
    from dpsynth.privacy.many_runs.sweep_cost import sweep_cost
    from dpsynth.privacy.release.run_folder import ledgers_in

    text = sweep_cost(ledgers_in(folder)).text()
    parts = [line.rpartition(": ") for line in text.splitlines()]
    return {head or tail: tail.rstrip(".") for head, _, tail in parts}


def main(node: DictConfig) -> None:
    """Writes both files and says where they are."""
    from dpsynth.data.tables.untrusted import CHECKED
    from dpsynth.report.page import write

    request = checked(node)
    if request.registry is not None:
        write_entry(request.release, request.registry)
        print(f"{request.registry}\nReleased facts alone. Verify the release, and fill in what is null.")
        return
    if request.release is not None:
        document, folder = release_document(request), request.release.resolve().parent
    else:
        document, folder = sweep_document(request)
    page, printed = write(document, request.out or folder)
    mark = "Internal: compares with real rows." if document.internal else "Released facts alone."
    print(f"{page}\n{printed}\n{mark}")
    if request.release is not None:
        print(CHECKED)
    print(_attached(request, [page, printed], "internal/report" if document.internal else "report"))


def _attached(request: ReportRequest, files: list[Path], folder: str) -> str:
    """Copies the report to the run that it is about, where that run is recorded; says whether it did."""
    from dpsynth import tracking

    if request.tracking.name == "none":
        return "Not attached to a run: tracking=none."
    try:
        run_id = _run_id(request)
        if run_id is None:
            return "Not attached to a run: none is known."
        tracking.attach(request.tracking, run_id, files, folder)
    except DpsynthError as error:
        return f"Not attached to a run: {error}"
    return f"Attached to MLflow's run {run_id} as {folder}."


def _run_id(request: ReportRequest) -> str | None:
    """Returns the recorded run of a release, or the parent run of a sweep."""
    from dpsynth import tracking

    if request.release is not None:
        result = request.release.resolve().parent / RESULT
        return Point.load(result).run_id if result.is_file() else None
    if not Path(request.sweep).is_dir():
        return request.sweep
    found = [point.run_id for point in collect(Path(request.sweep)) if point.run_id]
    return tracking.tags_of(request.tracking, found[0]).get("mlflow.parentRunId") if found else None


if __name__ == "__main__":
    run(main, "report", checked=checked)
