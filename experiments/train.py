"""Trains one generator per point and says what its privacy bought: `python -m experiments.train --help`.

One job: read the table, set the holdout aside, run the pipeline on the rest, evaluate, record. The claim
covers the whole table: who is set aside is decided by secret coins. Figures on the holdout are internal.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dpsynth.config import RunConfig, parse
from dpsynth.errors import described
from dpsynth.study.canary_coins import flip
from dpsynth.study.labels import claim_of, label_of, method_of, name_of
from dpsynth.study.lifetime import account_of
from dpsynth.study.points import FAILED, FINISHED, Point
from dpsynth.study.recipe import recipe_of
from dpsynth.study.run_audit import audit_run, refuse_violation
from dpsynth.study.rungs import rung_points

from . import command_line, sweep

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.evaluation.types import Evaluation
    from dpsynth.pipeline import Plan, Run
    from dpsynth.privacy.many_runs.lifetime import Account
    from dpsynth.privacy.release.release import Release
    from dpsynth.tracking import Tracker


def utility_of(evaluation: Evaluation) -> float:
    """Returns the figure that a sweeper maximises: the score on real rows, else the closeness to them."""
    from dpsynth.report import names
    from dpsynth.report.frontier import default_metrics, tidy

    main = default_metrics(tidy(evaluation, generator="", epsilon=0.0, seed=0))[0]
    value = evaluation[main].value
    return value if names.higher_is_better(main) else -value


def peak_memory_mb() -> float:
    """Returns the largest memory that this process has held so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def plain_yaml(config: RunConfig) -> str:
    """Returns the resolved configuration as a file that says what to override."""
    import yaml

    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)


def _record(tracker: Tracker, release: Release, evaluation: Evaluation, folder: Path) -> None:
    """Logs what came out; the names say what may leave."""
    tracker.metrics(
        {f"internal/seconds/evaluate_{stage}": seconds for stage, seconds in evaluation.seconds.items()}
    )
    tracker.metric("released/rows", len(release.synthetic))
    tracker.metric("internal/system/peak_memory_mb", peak_memory_mb())
    if "torch" in sys.modules:
        tracker.metric("internal/system/threads", sys.modules["torch"].get_num_threads())
    for metric in evaluation.metrics:
        ends = {"": metric.value, "_lower": metric.lower, "_upper": metric.upper}
        known = {
            suffix: value for suffix, value in ends.items() if value is not None and math.isfinite(value)
        }
        tracker.metrics(
            {f"{metric.visibility}/{metric.name}{suffix}": value for suffix, value in known.items()}
        )
    tracker.artifacts(folder / "release", "release")
    tracker.register(folder / "release")
    tracker.text(json.dumps(evaluation.to_dict(), indent=1), "internal/evaluation.json")


def _fit(
    config: RunConfig,
    plan: Plan,
    train: PrivateTable,
    account: Account,
    folder: Path,
    tracker: Tracker,
    coins: str | None,
) -> Run:
    """Runs the pipeline on the training rows under a progress bar."""
    from dpsynth import pipeline
    from dpsynth.study.progress import shown

    how = {"alone": not sweep.runs_beside_others(), "quiet": config.sweep.trial is not None}
    with shown(label_of(config), tracker, plan, **how) as on_step:
        return pipeline.run(
            train,
            recipe_of(config),
            folder,
            on_step=on_step,
            canaries=coins,
            account=account,
            sign_key=None if config.sweep.trial is not None else config.release.sign_key,
        )


def _run(config: RunConfig, folder: Path, tracker: Tracker) -> Point:
    """Does one job; the result is also in the folder and in the tracker."""
    from dpsynth import pipeline
    from dpsynth.data.tables.datasets import load, load_schema
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.data.units.units import units_of
    from dpsynth.evaluation.metrics import evaluate
    from dpsynth.privacy.plan.pricing import describe_plan
    from dpsynth.study.holdout import set_aside

    text = plain_yaml(config)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    tracker.params(config.flat())
    tracker.text(text, "config.yaml")
    declared = load_schema(config.data)
    plan = pipeline.plan(declared, recipe_of(config))
    tracker.tags({"dp.claim": plan.guarantee.claim, "dp.unit": plan.guarantee.unit})
    tracker.text(describe_plan(plan), "plan.txt")
    with tracker.timed("load"):
        frame, schema = load(config.data)
        whole = PrivateTable(frame, schema)
        tracker.dataset(config.data.name, whole)
        shared = sweep.shared_folder(folder)
        rows, held = set_aside(frame, schema, config.holdout_share, folder, shared)
        flipped = flip(rows, schema, config.canary_share, folder, constructed=config.canary_constructed)
        train, holdout = PrivateTable(flipped.trained, schema), PrivateTable(held, schema)
        real = train if flipped.real is flipped.trained else PrivateTable(flipped.real, schema)
    run = _fit(config, plan, train, account_of(config, whole, folder), folder, tracker, flipped.digest)
    if math.isfinite(run.spent.epsilon):
        tracker.metric("privacy/table_epsilon", run.spent.epsilon)
    score = _score(config, run, holdout, folder)

    def evaluated(release: Release) -> Evaluation:
        return evaluate(
            release.synthetic,
            real.reveal("evaluation of the run on its training rows"),
            holdout.reveal("evaluation of the run on its holdout rows"),
            schema,
            config.evaluation,
            config.seed,
            cache=shared,
        )

    with tracker.timed("evaluate"):
        evaluation = evaluated(run.release)
    tracker.tags({"dp.claim": run.release.claim, "dp.unit": run.plan.guarantee.unit})
    tracker.metrics({f"internal/seconds/{stage}": seconds for stage, seconds in run.seconds.items()})
    _record(tracker, run.release, evaluation, folder)
    audit = audit_run(config, run, train, folder, tracker)
    if units_of(schema).ordered:
        _draw_sequences(tracker, run.release.synthetic, train, folder)
    how = {"who": _who(config), "evaluated": evaluated, "record": _record}
    rungs = rung_points(config, run, folder, tracker, **how)
    point = Point(
        **_who(config),
        status=FINISHED,
        claim=run.release.claim,
        evaluation=evaluation.to_dict(),
        seconds={**run.seconds, **{f"evaluate_{key}": value for key, value in evaluation.seconds.items()}},
        audit=audit,
        release=str(folder / "release"),
        run_id=tracker.run_id,
        spent=run.spent.text(),
        score=score,
        rungs=[vars(rung) for rung in rungs],
    )
    if rungs:
        sweep.record_frontier(tracker, folder, point.ladder)
    return point


def _score(config: RunConfig, run: Run, holdout: PrivateTable, folder: Path) -> float | None:
    """Returns the noisy score of a trial of a private selection; None for other runs."""
    if config.sweep.trial is None:
        return None
    from dpsynth.study.selection import score_once

    def rows() -> pd.DataFrame:
        return holdout.reveal("noisy score of a trial, paid for by the selection")

    return score_once(config, run.release.synthetic, rows, holdout.schema, folder)


def _draw_sequences(tracker: Tracker, synthetic: pd.DataFrame, train: PrivateTable, folder: Path) -> None:
    """Draws sample paths, autocorrelations and lengths; internal, since they show real rows."""
    from dpsynth.report.sequences import sequence_pictures

    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    real = train.reveal("pictures of the run's training sequences")
    for name, content in sequence_pictures(synthetic, real, train.schema).items():
        (pictures / f"{name}.png").write_bytes(content)
    tracker.artifacts(pictures, "internal/pictures")


def _who(config: RunConfig) -> dict[str, Any]:
    """Returns what tells a point from others."""
    total = config.privacy.total_epsilon
    return {
        "digest": config.digest,
        "generator": method_of(config),
        "epsilon": total if math.isfinite(total) else None,
        "seed": config.seed,
        "settings": config.flat(),
    }


def job(node: DictConfig) -> float:
    """Runs one point, unless the sweep that is resumed has it; returns its utility for a sweeper."""
    from dpsynth import tracking
    from dpsynth.evaluation.types import Evaluation
    from dpsynth.study.selection import kept_score

    config = parse(node)
    trial = config.sweep.trial is not None
    if trial:  # how many trials there are is secret: they leave no run behind, and print nothing
        config = replace(config, tracking=replace(config.tracking, name="none"))
    folder, point = sweep.place(config)
    if point is None:
        tags = {"dp.claim": claim_of(config), "dpsynth.kind": "run", "dpsynth.digest": config.digest}
        if config.tracking.parent_run_id:
            tags |= sweep.search_tags(HydraConfig.get())
        try:
            with tracking.track(config.tracking, name_of(config), tags, watch=True) as tracker:
                point = _run(config, folder, tracker)
        except Exception as error:
            failed = Point(**_who(config), status=FAILED, claim=claim_of(config), error=described(error))
            if trial:  # the choice is among scores, whatever became of unpaid figures
                failed = replace(failed, score=kept_score(folder), release=str(folder / "release"))
            failed.dump(folder)
            raise
        point.dump(folder)
    if not config.tracking.parent_run_id and not trial:
        print(sweep.finished_text(point))
    refuse_violation(point.audit, point.release)
    return utility_of(Evaluation.from_dict(point.evaluation))


if __name__ == "__main__":
    command_line.run(job, "train", around=sweep.around)
