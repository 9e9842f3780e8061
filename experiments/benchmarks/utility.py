"""The utility suite: what released rows are worth, by generator, budget and noise draw."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from dpsynth.data.tables.datasets import SCHEMAS, DataConfig, load_schema
from dpsynth.errors import DpsynthError, InvalidInput, Problem, nearest

from .harness import Figure, checked_names
from .utility_peers import PEERS, peer_table, python_of

_METRICS = {
    "tstr_auc_boosting": "auc",
    "tstr_r2_boosting": "r2",
    "tv_1way": "tv_1way",
    "tv_2way": "tv_2way",
    "tv_3way_target": "tv_3way",
}
_OF_SEQUENCES = {
    "acf_gap": "acf",
    "cross_correlation_gap": "cross_correlation",
    "step_marginal_tv": "step_marginal",
    "transition_tv": "transition",
    "tstr_last_step_r2": "last_step",
}
ROWS = (*_METRICS.values(), *_OF_SEQUENCES.values(), "seconds")
ABLATIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "no anchoring": {
        "ctgan": {"anchor_weight": 0.0},
        "tvae": {"anchor_weight": 0.0},
        "dgan": {"anchor_weight": 0.0, "adversarial_weight": 1.0},
    },
    "no fitting": {name: {"fit_pool": 0} for name in ("ctgan", "tvae", "marginal_net", "bayes_net")},
    "no adaptivity": {
        name: {"adaptive_rounds": 0} for name in ("ctgan", "tvae", "marginal_net", "bayes_net")
    },
    "no DP-SGD": {"ctgan": {"adversarial_weight": 0.0}, "tvae": {"dp_sgd": False}},
    "DP-SGD added": {"dgan": {"adversarial_weight": 1.0}},  # it has no critics unless asked for
}
_DIVIDED = {"dgan": {"adversarial_weight": 1.0}}  # settings with which there is something to divide
_SPLIT = (
    b"public"  # who is tested on: nothing made here is released, and every draw is tested on the same rows
)
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided 95 % quantiles by number of draws


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Keys of conf/suite/utility.yaml.

    Args:
      name: of the suite.
      data: a choice of conf/data; csv for a table of one's own. Of sequences, their own figures are measured
        as well.
      path: a local file of it.
      schema: of that file; None takes the one that comes along.
      generators: methods to compare.
      epsilons: declared budgets.
      peers: PACKAGE/METHOD of other packages; those without privacy are run once, for no budget.
      pythons: by package, a Python that has it; this one is tried where none is given.
      peer_epochs: of peers that train in epochs.
      ablated: methods that are measured again without each of their parts (`ABLATIONS`).
      marginals_shares: of the budget, for these methods' joint histograms; each is measured too.
      steps: of DP-SGD; None takes those of a run.
      draws: noise draws of each point; split, weights and latents are the same.
      holdout_share, delta, threads: as in a run.
      keep: a file of finished draws (JSON lines); those in it are not run again, so that a table grows in
        parts: another generator, another epsilon, one more draw. None keeps none. Internal, as all figures.
    """

    name: str = "utility"
    data: str = "adult"
    path: str | None = None
    schema: str | None = None
    generators: tuple[str, ...] = (
        "independent",
        "gaussian_copula",
        "bayes_net",
        "marginal_net",
        "aim",
        "ctgan",
        "tvae",
    )
    epsilons: tuple[float, ...] = (1.0, 10.0)
    peers: tuple[str, ...] = tuple(PEERS)
    pythons: dict[str, str | None] = field(default_factory=dict)
    peer_epochs: int = 50
    ablated: tuple[str, ...] = ("ctgan", "tvae")
    marginals_shares: tuple[float, ...] = ()
    steps: int | None = None
    draws: int = 3
    holdout_share: float = 0.2
    delta: float = 1e-5
    threads: int = 1
    keep: str | None = None

    def __post_init__(self):
        unknown = [name for name in self.peers if name not in PEERS]
        problems = [Problem("peers", f"{name!r} is not a peer.", nearest(name, PEERS)) for name in unknown]
        try:
            load_schema(self.table)
        except InvalidInput as error:
            problems += [replace(p, where=p.where.removeprefix("data.")) for p in error.problems]
        if problems:
            raise InvalidInput("suite", problems)

    @property
    def table(self) -> DataConfig:
        """Which table, and what is declared about it."""
        choice = SCHEMAS / f"{self.data}.yaml"
        known = yaml.safe_load(choice.read_text(encoding="utf-8")) if choice.is_file() else {}
        declared = self.schema or known.get("schema")
        return DataConfig(name=self.data, path=self.path, schema=declared)


def checked_rows(rows: Any) -> tuple[str, ...]:
    """The figures to show, in order; None means all."""
    return checked_names(rows, ROWS)


def measure(rows: tuple[str, ...], settings: Settings) -> Iterator[tuple[str, list[Figure] | str]]:
    """Runs every point; yields its figures: mean and interval over the noise draws."""
    import torch

    from dpsynth.data.tables import datasets
    from dpsynth.data.tables.split import split

    torch.set_num_threads(settings.threads)
    frame, schema = datasets.load(settings.table)
    train, test = split(frame, schema, settings.holdout_share, _SPLIT)
    kept, told = _kept(settings.keep), set()
    for arm, epsilon in _points(settings):
        if missing := _missing(arm, settings):
            if arm.name not in told:
                yield arm.name, missing
            told.add(arm.name)
            continue
        found, failed = [], ""
        for draw in range(settings.draws):
            key = _key(arm, epsilon, draw, settings)
            if key not in kept:
                try:
                    kept[key] = _point(train, test, schema, arm, epsilon, settings)
                except DpsynthError as error:
                    if arm.generator not in PEERS:
                        raise
                    failed = str(error)
                    break
                _keep(settings.keep, key, kept[key])
            found.append(kept[key])
        if failed:
            yield arm.name, failed
            continue
        yield arm.name, [_figure(row, arm.name, epsilon, found) for row in rows if row in found[0]]


def _points(settings: Settings) -> Iterator[tuple[Arm, float]]:
    """What is measured, in order: every arm at every budget; what has no budget comes last, once."""
    peers = [Arm(name=name, generator=name, settings={}) for name in settings.peers]
    for epsilon in settings.epsilons:
        for arm in [*arms(settings), *(peer for peer in peers if PEERS[peer.generator])]:
            yield arm, epsilon
    for peer in peers:
        if not PEERS[peer.generator]:
            yield peer, math.inf


def _missing(arm: Arm, settings: Settings) -> str:
    """Why an arm cannot be measured here; empty if it can."""
    if arm.generator in PEERS and python_of(arm.generator, settings.pythons) is None:
        package = arm.generator.partition("/")[0]
        return f"{package} is not installed: name a Python that has it in suite.pythons.{package}"
    if arm.generator == "aim" and find_spec("mbi") is None:
        return "mbi is not installed: pip install 'dpsynth[marginal]'"
    return ""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method with settings that differ from its defaults."""

    name: str
    generator: str
    settings: Mapping[str, Any]
    marginals_share: float | None = None


def arms(settings: Settings) -> list[Arm]:
    """What is compared at each budget: methods, then the ablated ones without each part."""
    listed = [Arm(name=name, generator=name, settings={}) for name in settings.generators]
    for name in settings.ablated:
        listed += [
            Arm(name=f"{name}, {without}", generator=name, settings=changes[name])
            for without, changes in ABLATIONS.items()
            if name in changes
        ]
        listed += [
            Arm(
                name=f"{name}, marginals share {share:g}",
                generator=name,
                settings=_DIVIDED.get(name, {}),
                marginals_share=share,
            )
            for share in settings.marginals_shares
        ]
    return listed


def _key(arm: Arm, epsilon: float, draw: int, settings: Settings) -> str:
    """What a draw was made of, as the file has it."""
    facts = {
        "arm": arm.name,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "draw": draw,
        "delta": settings.delta,
        "steps": settings.steps,
    }
    if settings.data == "csv":
        facts |= {"path": settings.path, "schema": settings.schema}
    return json.dumps(
        facts | {"data": settings.data, "holdout_share": settings.holdout_share}, sort_keys=True
    )


def _kept(path: str | None) -> dict[str, dict[str, float]]:
    """Draws that an earlier run finished; a line that it did not finish is left out."""
    if path is None or not Path(path).exists():
        return {}
    found = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            key, figures = json.loads(line)
            found[key] = figures
    return found


def _keep(path: str | None, key: str, figures: dict[str, float]) -> None:
    if path is not None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([key, figures])}\n")  # what was cut short before stays a line alone


def _figure(row: str, name: str, epsilon: float, found: list[dict[str, float]]) -> Figure:
    """Mean over noise draws, with its 95 % interval by Student's t; of one draw, no interval."""
    values = [figures[row] for figures in found]
    mean, reach = statistics.fmean(values), None
    if len(values) > 1:
        reach = _STUDENT.get(len(values), 2.571) * statistics.stdev(values) / math.sqrt(len(values))
    return Figure(
        row=row,
        name=f"{name} epsilon={epsilon:g}" if math.isfinite(epsilon) else f"{name} without privacy",
        value=mean,
        unit="s" if row == "seconds" else "",
        low=None if reach is None else mean - reach,
        high=None if reach is None else mean + reach,
    )


def _point(
    train: Any, test: Any, schema: Any, arm: Arm, epsilon: float, settings: Settings
) -> dict[str, float]:
    """One run under fresh noise, and its figures; internal."""
    from dpsynth.evaluation.metrics import evaluate
    from dpsynth.evaluation.types import EvaluationConfig

    made, seconds = (_peer if arm.generator in PEERS else _own)(train, schema, arm, epsilon, settings)
    config = EvaluationConfig(models=("boosting",), propensity=False, num_bootstraps=20)
    found = evaluate(made, train, test, schema, config, seed=0)
    figures = {
        short: found[name].value for name, short in (_METRICS | _OF_SEQUENCES).items() if name in found
    }
    return figures | {"seconds": seconds}


def _own(train: Any, schema: Any, arm: Arm, epsilon: float, settings: Settings) -> tuple[Any, float]:
    """Rows released by a run of this project, and its seconds."""
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.generators.base import load_generator
    from dpsynth.pipeline import Recipe, run
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    recipe = Recipe(
        generator=arm.generator,
        settings=load_generator(arm.generator).Config(**arm.settings),
        privacy=PrivacyConfig(
            epsilon=epsilon, delta=settings.delta, marginals_share=arm.marginals_share or 0.0
        ),
        training=TrainingConfig(steps=settings.steps, threads=settings.threads),
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        release = run(PrivateTable(train, schema), recipe, folder).release
    return release.synthetic, time.perf_counter() - start


def _peer(train: Any, schema: Any, arm: Arm, epsilon: float, settings: Settings) -> tuple[Any, float]:
    """Rows of another package, and its seconds."""
    budget = {"delta": settings.delta, "epochs": settings.peer_epochs, "threads": settings.threads}
    if math.isfinite(epsilon):
        budget["epsilon"] = epsilon
    python = python_of(arm.generator, settings.pythons)
    return peer_table(arm.generator, python, train, schema, budget)
