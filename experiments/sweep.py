"""What surrounds the jobs of a sweep: the parent run, the points that need not run again, the frontier."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from dpsynth import tracking
from dpsynth.config import SUBJECT, RunConfig
from dpsynth.errors import DpsynthError, InvalidInput, Problem, described, trace
from dpsynth.files import write_whole
from dpsynth.study.points import (
    EVIDENCE,
    FINISHED,
    INTERNAL,
    RESULT,
    Point,
    aligned,
    collect,
    evidence,
    indented,
    near,
    run_table,
    summary_text,
    table,
)
from dpsynth.study.resume import MARK, found, mark_of, refuse_unknown, resumable
from dpsynth.study.run_audit import sentence
from dpsynth.study.sweep_notes import NOTE, sweep_note

from .command_line import JobFailed
from .overrides import CommandLine

SEARCHED = (
    "A search chose these settings after looking at figures of earlier ones on private rows, which nothing "
    "paid for. No epsilon covers that choice."
)
_AXES = 4  # figures among the parallel coordinates


def quoted(text: str) -> str:
    """Writes a value so that Hydra's grammar takes it literally."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def place(config: RunConfig) -> tuple[Path, Point | None]:
    """Returns where a point works, and its result when the sweep that is resumed has it already.

    A point is known by its digest: the order of the points, and with it Hydra's numbering, may change between
    a sweep and its resumption. A point that was begun goes on in its own folder, where its ledger is.
    """
    if config.sweep.resume is not None:
        known = found(
            config, Path(config.sweep.resume) / (INTERNAL if config.sweep.trial is not None else "")
        )
        if known is not None:
            folder, evaluated = known
            result = folder / RESULT
            point = Point.load(result) if evaluated and result.exists() else None
            return folder, point if point is not None and point.status == FINISHED else None
    folder = Path(HydraConfig.get().runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MARK).exists():  # the number belonged to another point
        folder = folder.with_name(f"{folder.name}-{config.digest[:12]}")
        folder.mkdir(exist_ok=True)
    write_whole(folder / MARK, mark_of(config))
    return folder, None


def runs_beside_others() -> bool:
    """Says whether other jobs run at the same time, so that bars would write over each other's."""
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and not str(hydra.launcher._target_).endswith("BasicLauncher")


def shared_folder(folder: Path) -> Path:
    """Returns where the points of a sweep keep what they share: who is held out, figures on real rows alone.

    Internal. The trials of a private selection are in that folder themselves.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return folder / INTERNAL
    return folder.parent if folder.parent.name == INTERNAL else folder.parent / INTERNAL


def record_frontier(tracker: tracking.Tracker, folder: Path, points: Sequence[Point]) -> None:
    """Attaches the frontier to a run: a table, a picture, a page; internal, as its figures are."""
    figures = table(points)
    if figures.empty:
        return
    place = folder / "frontier"
    place.mkdir(exist_ok=True)
    figures.to_csv(place / "figures.csv", index=False)
    from dpsynth.evaluation.plots import png
    from dpsynth.report.frontier import default_metrics, make_frontier
    from dpsynth.report.frontier_plots import frontier_figure, frontier_page

    main = make_frontier(figures, default_metrics(figures)[0])
    shown = main.points.assign(metric=main.metric, real_rows=main.real)
    shown.to_csv(place / "frontier.csv", index=False)
    (place / "frontier.png").write_bytes(png(frontier_figure(main), dpi=160))
    (place / "frontier.html").write_text(frontier_page(figures), encoding="utf-8")
    axes = default_metrics(figures)[:_AXES]
    if len(runs := run_table(points, axes)) > 1:
        from dpsynth.report.parallel import parallel_page

        page = parallel_page(runs, axes)
        (place / "runs.html").write_text(page, encoding="utf-8")
    (place / "summary.txt").write_text(summary_text(points), encoding="utf-8")
    if picture := evidence(points):
        (place / EVIDENCE).write_bytes(picture)
    tracker.artifacts(place, "internal/frontier")
    tracker.table(shown.reset_index(drop=True), "internal/frontier/table.json")


def search_tags(hydra: Any) -> dict[str, str]:
    """Returns the tag of runs whose settings follow from earlier ones' figures, as with Optuna; else none."""
    sweeper = str(OmegaConf.select(hydra, "sweeper._target_"))
    return {} if sweeper.endswith(("BasicSweeper", "PrivateSweeper")) else {"dp.search": SEARCHED}


def _cost(folder: Path, tracker: tracking.Tracker, searched: bool) -> str:
    """States what the sweep costs as a whole, from every ledger in it; a search has no cost that is known."""
    if searched:
        tracker.text(SEARCHED, "cost.txt")
        return SEARCHED
    from dpsynth.privacy.many_runs.sweep_cost import sweep_cost
    from dpsynth.privacy.release.run_folder import ledgers_in

    cost = sweep_cost(ledgers_in(folder))
    stated = {"one": cost.one, "all": cost.all, "best": cost.best}
    tracker.metrics({f"privacy/sweep_{key}": value for key, value in stated.items() if math.isfinite(value)})
    tracker.text(cost.text(), "cost.txt")
    return cost.text()


def _say(
    points: Sequence[Point], config: RunConfig, folder: Path, tracker: tracking.Tracker, *, searched: bool
) -> None:
    """Ends a sweep on the terminal: the table, the releases, what failed, how to see more."""
    parts, cost = [summary_text(points)], ""
    with _reported("The sweep's cost could not be computed"):
        cost = _cost(folder, tracker, searched)
        parts.append(f"What this sweep costs in privacy:\n{indented(cost)}")
    tracker.tags({NOTE: sweep_note(points, cost)})
    parts.append(f"Everything of this sweep: {near(folder)}")
    if tracker.run_id:
        parts.append(f"See all runs in MLflow:\n{indented(tracking.how_to_open(config.tracking))}")
    print("\n" + "\n\n".join(parts) + "\n", flush=True)


@contextlib.contextmanager
def around(command: CommandLine) -> Iterator[list[str]]:
    """Holds the parent run open while the jobs run, and sums up when they are done, failed or interrupted.

    Yields the overrides that every job gets, wherever its launcher starts it: the sweep's folder, the parent
    run, and the store's address in a form that does not depend on a working directory.
    """
    config: RunConfig = command.first
    if not command.multirun:
        if config.sweep.selection == "private":
            problem = Problem(
                "sweep.selection", "is private, but there is one run to choose from.", "Add -m."
            )
            raise InvalidInput(SUBJECT, [problem])
        own = Path(config.sweep.resume or OmegaConf.select(command.hydra, "run.dir")).resolve()
        if config.sweep.resume is not None:
            refuse_unknown([config], own)
        with resumable("train", command.arguments, own):
            yield [] if config.sweep.resume else [f"hydra.run.dir={quoted(str(own))}"]
        return
    folder = Path(config.sweep.resume or OmegaConf.select(command.hydra, "sweep.dir")).resolve()
    if config.sweep.resume is not None:
        folder = folder.parent if (folder / MARK).exists() else folder
        if config.sweep.selection != "private":  # trials are known by their draw, which is kept there
            refuse_unknown(command.points, folder)
    folder.mkdir(parents=True, exist_ok=True)
    store = config.tracking.absolute()
    name = f"sweep of {command.num_points} points"
    with tracking.track(config.tracking, name, {"dpsynth.kind": "sweep", "sweep.folder": folder}) as tracker:
        tracker.tags(search_tags(command.hydra))
        tracker.params({"command": " ".join(command.arguments), "points": command.num_points})
        private = config.sweep.selection == "private"
        jobs = folder / INTERNAL if private else folder
        extra = [f"hydra.sweep.dir={quoted(str(jobs))}"]
        if private:
            extra.append("hydra/sweeper=private")
            print("Trials run. How many there are stays secret, so nothing of them is shown.", flush=True)
        else:
            extra.append(f"sweep.chosen={'search' if search_tags(command.hydra) else 'grid'}")
        extra += _search_settings(command)
        if tracker.run_id:
            extra += [f"tracking.parent_run_id={tracker.run_id}", f"tracking.uri={quoted(store.uri)}"]
        failure = None
        try:
            with resumable("train", ["-m", *command.arguments], folder):
                yield extra
        except JobFailed as error:  # some points failed, and are marked so; the sweep itself went through
            failure = error
        finally:
            points = collect(jobs)
            if private:
                with _reported("Nothing was chosen"):
                    _select(tracker, folder, points)
            elif points:
                with _reported("The frontier could not be drawn"):
                    record_frontier(tracker, folder, points)
                with _reported("The summary could not be made"):
                    _say(points, config, folder, tracker, searched=bool(search_tags(command.hydra)))
        if not private:
            tracker.tags({"sweep.failed_points": sum(point.status != FINISHED for point in points)})
    if failure is not None:
        raise failure


def _search_settings(command: CommandLine) -> list[str]:
    """Returns what a search by Optuna needs to know of our jobs, unless the user said otherwise.

    They return utility, more being better, and a trial that failed says so by itself.
    """
    if "optuna" not in str(OmegaConf.select(command.hydra, "sweeper._target_")):
        return []
    ours = {"hydra.sweeper.direction": "maximize", "hydra.sweeper.max_failure_rate": "1.0"}
    typed = {word.partition("=")[0] for word in command.arguments}
    return [f"{key}={value}" for key, value in ours.items() if key not in typed]


def _select(tracker: tracking.Tracker, folder: Path, points: Sequence[Point]) -> None:
    """Releases the best trial, and records it with the sweep; figures of trials stay in their folder."""
    from dpsynth.study.selection import SELECTED, TRIALS, conclude

    if not (folder / INTERNAL / TRIALS).exists():  # refused before a trial was drawn, and said why
        return
    release, said = conclude(folder, points)
    if release is not None:
        tracker.tags({"dp.claim": release.claim})
        tracker.artifacts(folder / SELECTED / "release", "release")
        tracker.register(folder / SELECTED / "release")
    if points:
        with _reported("The frontier of the trials could not be drawn"):
            record_frontier(tracking.Tracker(), folder / INTERNAL, points)
    tracker.text(said, "selection.txt")
    print(f"\n{said}\nInternal, all of the trials: {near(folder / INTERNAL)}\n", flush=True)


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Lets a failed summary end in a message: the runs themselves are done and recorded."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, DpsynthError):  # another library's message may quote a value
            print(trace(error), file=sys.stderr)
        print(f"{what}: {described(error)}", file=sys.stderr)


def finished_text(point: Point) -> str:
    """Says on one screen what a single run made."""
    import pandas as pd

    from dpsynth.report import names
    from dpsynth.report.frontier import default_metrics

    if point.rungs:
        return f"{summary_text(point.ladder)}\n\n{_ladder_text(point)}\n{point.spent or ''}".rstrip()
    figures = table([point])
    rows: list[Sequence[Any]] = []
    for metric in default_metrics(figures)[:3]:
        row = figures[figures["metric"] == metric].iloc[0]
        known = pd.notna(row["lower"])
        interval = f"[{row['lower']:.3f}, {row['upper']:.3f}]" if known else ""
        rows.append([names.label(metric), f"{row['value']:.3f}", interval])
    lines = [f"{point.generator}: {point.claim}", aligned(rows)]
    lines += [sentence(point.audit)] if point.audit else []
    lines.append(f"Release: {near(point.release)}")
    return "\n".join([*lines, *([point.spent] if point.spent else [])])


def _ladder_text(point: Point) -> str:
    """Says what the rungs of one training cost together."""
    return (
        "One training with one noise multiplier gave every rung. Publishing several of them costs the\n"
        f"epsilon of the highest: {point.claim}."
    )
