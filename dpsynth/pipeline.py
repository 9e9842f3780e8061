"""The story of a release: plan, measure, encode, train, sample, release. Read this first.

Left of the release everything that reads a private unit takes the ledger and pays; right of it nothing flows
back. Each step is one call into the package that owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.bought.questions import refined_questions
from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.units import units_of
from dpsynth.errors import GuaranteeVoid
from dpsynth.planning import plan, request, try_questions
from dpsynth.privacy.many_runs.lifetime import OWN, Account, Uncharged
from dpsynth.privacy.plan.plan import Plan
from dpsynth.privacy.release.run_folder import RunFolder, facts_of
from dpsynth.recipe import Recipe, settings_of

__all__ = ["Plan", "Recipe", "Run", "plan", "rebuild", "request", "run", "sample"]

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.privacy.ledger.ledger import Ledger
    from dpsynth.privacy.many_runs.costs import Spent
    from dpsynth.privacy.many_runs.ladder import Extract
    from dpsynth.privacy.noise.entropy import Entropy
    from dpsynth.privacy.release.release import Release
    from dpsynth.privacy.training.progress import Progress, TrainingLog


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run made: the release, and around it internal figures that stay behind.

    Args:
      release: what may leave.
      plan: what was bought; public.
      training: steps, losses and conformance figures; internal. None where nothing was trained.
      seconds: wall time by stage; internal.
      rungs: releases of a ladder below `release`, in the order of `plan.rungs`. All of them together cost
        what `release` costs.
      spent: on the table by all runs so far; None where nothing is charged to it.
    """

    release: Release
    plan: Plan
    training: TrainingLog | None
    seconds: Mapping[str, float]
    rungs: tuple[Release, ...] = ()
    spent: Spent | None = None


def run(
    table: PrivateTable,
    recipe: Recipe,
    folder: str | Path,
    *,
    on_step: Callable[[Progress], None] | None = None,
    entropy: Entropy | None = None,
    canaries: str | None = None,
    account: Account | Uncharged = OWN,
    sign_key: str | Path | None = None,
) -> Run:
    """Spends the declared budget on a table and writes a Release to `folder/release`.

    Formal guarantee: the release is (epsilon, delta)-differentially private for the recipe's budget, under
    adding or removing one unit of `table`; with `privacy.name=none` there is none, and it says so.
    With `privacy.lifetime_epsilon` all runs on the table compose to at most that.
    Edge cases: an interrupted run in the same folder goes on where it was, paying for nothing twice; a
    finished one returns its release, to the same recipe, schema and table alone.

    Args:
      table: private.
      folder: of this run; `run.json`, `ledger.jsonl`, `answers.json` and `training.ckpt` are kept there.
      on_step: told the progress of training.
      entropy: only for tests; a fixed source voids the certificate.
      canaries: hash that commits to coins by which units were left out of `table`; stands in the ledger.
      account: to whom it is charged, if not by itself to `table`.
      sign_key: file of the Ed25519 key that signs the release, and those of its rungs.
    Raises:
      InvalidInput: recipe and schema do not go together; nothing was read.
      BudgetExceeded: the ledger, or the lifetime budget, refused; nothing more was read.
      GuaranteeVoid: the folder holds another run, or something paid for was changed or lost.
    """
    from dpsynth.privacy.many_runs.lifetime import charge_lifetime
    from dpsynth.privacy.noise.entropy import make_entropy
    from dpsynth.privacy.release.signing import read_private_key
    from dpsynth.privacy.training.fit import fit
    from dpsynth.privacy.training.memory import cpu_threads
    from dpsynth.privacy.training.progress import Clock

    clock, folder = Clock(), Path(folder)
    key = None if sign_key is None else read_private_key(sign_key)
    entropy = entropy or make_entropy(recipe.privacy.noise, recipe.training.device)
    with clock("plan"):
        priced = replace(plan(table.schema, recipe), canaries=canaries)
    book, spent = RunFolder.open(folder, facts_of(table.schema, recipe, canaries), table), None
    if isinstance(account, Account):
        spent, book = charge_lifetime(table, recipe.privacy, priced, book, account)
    if book.finished:
        release, rungs = book.releases(priced)
        _sign(folder, priced, key)
        return Run(
            release=release, plan=priced, training=None, seconds=clock.seconds, rungs=rungs, spent=spent
        )
    public = _public_rows(table.schema, recipe)
    try_questions(table.schema, recipe)
    with cpu_threads(recipe.training.threads), _ledger(folder / "ledger.jsonl", priced, recipe) as ledger:
        book.noted(ledger=ledger.id)
        with clock("measure"):
            statistics = _measure(table, recipe, priced, ledger, entropy, folder)
            generator, statistics = _build(table, recipe, statistics, priced, ledger, entropy, folder)
        with clock("train"):
            training = fit(generator, table, recipe, priced, ledger, entropy, folder, on_step, public)
        with clock("sample"):
            synthetic = _generate(generator, recipe.num_rows, seed=recipe.seed)
        with clock("release"):
            release = _release(generator, recipe, statistics, synthetic, ledger, entropy)
            rungs = _rungs(generator, recipe, statistics, priced, ledger, entropy, folder)
            release.save_whole(folder / "release")
            _sign(folder, priced, key)
    return Run(
        release=release, plan=priced, training=training, seconds=clock.seconds, rungs=rungs, spent=spent
    )


def sample(
    release: Release, num_rows: int | None = None, *, seed: int, conditions: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Makes more rows from a release; free, and possible without the private data.

    Args:
      num_rows: rows (entities, for sequences); None makes as many as the bought count says.
      seed: public; equal seeds give equal rows.
      conditions: values that these columns take in every row.
    """
    return _generate(rebuild(release), num_rows, seed=seed, conditions=conditions)


def rebuild(release: Release) -> Any:
    """Returns the generator of a release, with its released weights.

    Raises:
      GuaranteeVoid: statistics, settings and weights do not go together.
    """
    from dpsynth.generators.base import load_generator

    method = load_generator(str(release.generator["name"])).Generator
    config = settings_of(release.generator["name"], release.generator["config"])
    facts = {"private": release.shaped}
    try:
        encoder = method.encoder(config, release.schema, release.statistics, **facts)
        stored = type(encoder).from_dict(release.encoder, release.schema, release.statistics)
        generator = method(config, stored, release.statistics, seed=release.seed, **facts)
        generator.load_state(release.weights)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        rule = f"The release's weights do not fit its settings and statistics ({type(error).__name__})."
        raise GuaranteeVoid(f"{rule} See what is wrong with it by experiments.verify.") from error
    return generator


def num_samples(schema: Schema, statistics: Statistics) -> int:
    """How many rows, or sequences, a release has where nobody says: as many as were bought."""
    return max(1, round(units_of(schema).num_samples(statistics)))


def _measure(
    table: PrivateTable, recipe: Recipe, priced: Plan, ledger: Ledger, entropy: Entropy, folder: Path
) -> Statistics:
    """Buys what is known about columns one by one."""
    from dpsynth.generators.base import load_generator
    from dpsynth.privacy.measuring.measure import measure

    max_cells = load_generator(recipe.generator).Generator.encoder_type.max_cells
    return measure(table, priced, ledger, entropy, answers=folder / "answers.json", max_cells=max_cells)


def _ledger(path: Path, priced: Plan, recipe: Recipe) -> Ledger:
    """Opens a new ledger, or the one of the interrupted run in this folder."""
    from dpsynth.privacy.ledger.ledger import Ledger

    if path.exists():
        return Ledger.resume(path, priced)
    return Ledger.create(path, priced, recipe.to_dict())


def _build(
    table: PrivateTable,
    recipe: Recipe,
    statistics: Statistics,
    priced: Plan,
    ledger: Ledger,
    entropy: Entropy,
    folder: Path,
) -> tuple[Any, Statistics]:
    """Makes the generator, after buying the joint histograms that it asks for."""
    from dpsynth.generators.base import load_generator
    from dpsynth.privacy.measuring.joint_histograms import adaptive_histograms, joint_histograms

    method, private = load_generator(recipe.generator).Generator, recipe.privacy.shaped
    encoder = method.encoder(recipe.settings, table.schema, statistics, private=private)
    questions = method.questions(recipe.settings, table.schema, private=private)
    shop = {"plan": priced, "ledger": ledger, "entropy": entropy, "answers": folder / "answers.json"}
    if questions:
        statistics = joint_histograms(table, statistics, encoder, questions, **shop)
    if num := priced.request.num_refined:
        refined = refined_questions(statistics, num)
        statistics = joint_histograms(table, statistics, encoder, refined, event="marginals/refined", **shop)
    if priced.request.rounds is not None:
        seeker = method.seeker(recipe.settings, encoder, seed=recipe.seed)
        statistics = adaptive_histograms(table, statistics, encoder, seeker, **shop)
    generator = method(recipe.settings, encoder, statistics, seed=recipe.seed, private=private)
    return generator.to(recipe.training.device), statistics


def _rungs(generator, recipe, statistics, priced, ledger, entropy, folder) -> tuple[Release, ...]:
    """Makes the lower releases of a ladder from the states that training kept; changes the generator."""
    from dpsynth.privacy.many_runs.ladder import climb

    def make(part: Extract) -> Release:
        generator.fit_release()
        synthetic = _generate(generator, recipe.num_rows, seed=recipe.seed)
        return _release(generator, recipe, statistics, synthetic, part, entropy)

    if not priced.rungs:
        return ()
    priced = replace(priced, training=priced.training.with_count(generator.encoder.statistics.num_units))
    return climb(make, generator.objective(), priced, recipe.training, ledger, folder)


def _public_rows(schema: Schema, recipe: Recipe) -> pd.DataFrame | None:
    """Reads and checks the public table for validation, before anything is charged."""
    from dpsynth.data.tables.io import read_table

    path = recipe.training.public_validation
    return None if path is None else units_of(schema).capped(read_table(path, schema))


def _generate(
    generator: Any, num_rows: int | None, *, seed: int, conditions: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Samples units and presents them as the input was: columns, order, dtypes, with fresh keys."""
    from dpsynth.data.rows.conditions import coerced
    from dpsynth.data.schema.dtypes import restore_frame, surrogate_keys

    schema, statistics = generator.encoder.schema, generator.encoder.statistics
    num = num_samples(schema, statistics) if num_rows is None else num_rows
    conditions = coerced(conditions or {}, schema)
    packed = generator.sample(num, seed=seed, conditions=conditions)
    frame = generator.encoder.decode(packed, seed=seed, conditions=conditions)
    for column in schema.columns:
        if column.name in schema.names and column.name not in frame:
            frame[column.name] = surrogate_keys(column, len(frame))
    return restore_frame(frame[list(schema.names)], schema)


def _release(generator, recipe, statistics, synthetic, ledger, entropy) -> Release:
    from dpsynth.privacy.release.release import Release

    return Release.make(
        schema=generator.encoder.schema,
        statistics=statistics,
        encoder=generator.encoder.to_dict(),
        generator=recipe.generator,
        config=recipe.settings,
        shaped=recipe.privacy.shaped,
        weights=generator.state(),
        synthetic=synthetic,
        seed=recipe.seed,
        ledger=ledger,
        entropy=entropy,
    )


def _sign(folder: Path, priced: Plan, key: Any) -> None:
    """Signs what a run released; a folder that was finished without its signatures gets them now."""
    from dpsynth.privacy.release.signing import sign

    if key is not None:
        for place in (folder / "release", *(rung.place(folder) for rung in priced.rungs[:-1])):
            sign(place, key)
