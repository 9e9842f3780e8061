"""The story of a release: plan, measure, encode, train, sample, release. Read this first.

Left of the release everything that reads a private unit takes the ledger and pays; right of it nothing flows
back. Each step is one call into the package that owns it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.questions import crossing, num_refined, refined_questions
from dpsynth.data.schema import Schema
from dpsynth.data.statistics import Statistics
from dpsynth.data.table import PrivateTable, Receipt, capped
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.plan import Plan, Request, make_plan
from dpsynth.recipe import Recipe, settings_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dpsynth.privacy.ladder import Extract
    from dpsynth.privacy.ledger import Ledger
    from dpsynth.privacy.noise import Entropy
    from dpsynth.privacy.progress import Progress, TrainingLog
    from dpsynth.privacy.release import Release
    from dpsynth.privacy.sampling import UnitStore


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
    """

    release: Release
    plan: Plan
    training: TrainingLog | None
    seconds: Mapping[str, float]
    rungs: tuple[Release, ...] = ()


def plan(schema: Schema, recipe: Recipe) -> Plan:
    """Splits the declared budget before anything private is read; depends on public facts alone."""
    try:
        hash(recipe)
    except TypeError:  # settings that hold a mapping are solved for anew
        return _plan.__wrapped__(schema, recipe)
    return _plan(schema, recipe)


@functools.lru_cache(maxsize=8)
def _plan(schema: Schema, recipe: Recipe) -> Plan:
    return make_plan(recipe.privacy, recipe.training, schema, _request(schema, recipe))


def run(
    table: PrivateTable,
    recipe: Recipe,
    folder: str | Path,
    *,
    on_step: Callable[[Progress], None] | None = None,
    entropy: Entropy | None = None,
    canaries: str | None = None,
) -> Run:
    """Spends the declared budget on a table and writes a Release to `folder/release`.

    Formal guarantee: the release is (epsilon, delta)-differentially private for the recipe's budget, under
    adding or removing one unit of `table`; with `privacy.name=none` there is none, and it says so.
    Edge cases: an interrupted run in the same folder goes on where it was, paying for nothing twice; a
    finished one returns its release.

    Args:
      table: private.
      folder: of this run; `ledger.jsonl`, `answers.json` and `training.ckpt` are kept there.
      on_step: told the progress of training.
      entropy: only for tests; a fixed source voids the certificate.
      canaries: hash that commits to coins by which units were left out of `table`; stands in the ledger.
    Raises:
      InvalidInput: recipe and schema do not go together; nothing was read.
      BudgetExceeded: the ledger refused; nothing more was read.
    """
    from dpsynth.privacy.measure import measure
    from dpsynth.privacy.memory import cpu_threads
    from dpsynth.privacy.noise import make_entropy
    from dpsynth.privacy.progress import Clock
    from dpsynth.privacy.release import Release

    clock, folder = Clock(), Path(folder)
    entropy = entropy or make_entropy(recipe.privacy.noise, recipe.training.device)
    with clock("plan"):
        priced = replace(plan(table.schema, recipe), canaries=canaries)
    if (folder / "release").exists():
        release = Release.load(folder / "release")
        rungs = tuple(Release.load(rung.place(folder)) for rung in priced.rungs[:-1])
        return Run(release=release, plan=priced, training=None, seconds=clock.seconds, rungs=rungs)
    public = _public_rows(table.schema, recipe)
    with cpu_threads(recipe.training.threads), _ledger(folder / "ledger.jsonl", priced, recipe) as ledger:
        with clock("measure"):
            statistics = measure(table, priced, ledger, entropy, answers=folder / "answers.json")
            generator, statistics = _build(table, recipe, statistics, priced, ledger, entropy, folder)
        with clock("train"):
            training = _train(generator, table, recipe, priced, ledger, entropy, folder, on_step, public)
        with clock("sample"):
            synthetic = _generate(generator, recipe.num_rows, seed=recipe.seed)
        with clock("release"):
            release = _release(generator, recipe, statistics, synthetic, ledger, entropy)
            rungs = _rungs(generator, recipe, statistics, priced, ledger, entropy, folder)
            release.save_whole(folder / "release")
    return Run(release=release, plan=priced, training=training, seconds=clock.seconds, rungs=rungs)


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


def _request(schema: Schema, recipe: Recipe) -> Request:
    """What the method needs from the budget, known before any purchase."""
    from dpsynth.generators.base import load_generator, wishes

    method, private = load_generator(recipe.generator).Generator, recipe.privacy.shaped
    questions = method.questions(recipe.settings, schema, private=private)
    wants = wishes(method, recipe.settings, schema, private=private)
    return Request(
        trains=wants.trains,
        measures=wants.measures,
        num_marginals=len(questions),
        num_refined=num_refined(schema) if questions and wants.refines else 0,
        crossed=crossing(schema) if questions or wants.rounds else None,
        rounds=wants.rounds,
        **(_private_network(method, schema, recipe) if wants.trains and private else {}),
    )


def _private_network(method: Any, schema: Schema, recipe: Recipe) -> dict[str, Any]:
    """What the plan asks of the network, over made-up statistics: a guess, as no cell is bought yet."""
    statistics = Statistics.made_up(schema)
    encoder = method.encoder(recipe.settings, schema, statistics, private=True)
    objective = method(recipe.settings, encoder, statistics, seed=0, private=True).objective()
    return {
        "num_parameters": sum(p.numel() for p in objective.private.parameters()),
        "validates": hasattr(objective, "validation_losses"),
    }


def _ledger(path: Path, priced: Plan, recipe: Recipe) -> Ledger:
    """Opens a new ledger, or the one of the interrupted run in this folder."""
    from dpsynth.privacy.ledger import Ledger

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
    from dpsynth.privacy.joints import adaptive_histograms, joint_histograms

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


def _train(generator, table, recipe, priced, ledger, entropy, folder, on_step, public) -> TrainingLog | None:
    """Fits to bought statistics, free; then trains from private units, by DP-SGD or, declared so, without."""
    from safetensors.torch import load_file, save_file

    from dpsynth.privacy.certificate import file_digest
    from dpsynth.privacy.ladder import kept_states
    from dpsynth.privacy.training import Checkpoint, train, train_without_privacy
    from dpsynth.privacy.units import encoded_units, unit_store
    from dpsynth.privacy.warm_start import warm_started

    if not generator.trains:
        generator.fit_public()
        generator.fit_release()
        return None
    weights, config, seed = folder / "weights.safetensors", recipe.training, recipe.seed
    if ledger.is_finished("training"):  # a resumed run, interrupted after its training
        generator.load_state(load_file(weights))
        ledger.finish_if_open("validation")  # the looks at the loss
        return None
    generator.fit_public()
    validation = None if public is None else encoded_units(public, table.schema, generator.encoder)

    def units(receipt: Receipt) -> Tensor | UnitStore:
        rows, mb = table.read(receipt), config.resident_mb if priced.private else math.inf
        return unit_store(rows, table.schema, generator.encoder, resident_mb=mb, device=config.device)

    kept = kept_states(folder, priced)
    checkpoint = Checkpoint(path=folder / "training.ckpt", every=config.checkpoint_every, kept=kept)
    if priced.training is not None:
        constants = priced.training.with_count(generator.encoder.statistics.num_units)
        log = train(
            warm_started(generator, config, seed),
            units,
            constants,
            ledger,
            entropy,
            seed=seed,
            config=config,
            on_step=on_step,
            checkpoint=checkpoint,
            public_validation=validation,
        )
    else:
        rows = units(ledger.charge("training"))
        log = train_without_privacy(
            generator.plain_objective(), rows, config, seed=seed, on_step=on_step, validation=validation
        )
    generator.fit_release()
    save_file({name: tensor.contiguous() for name, tensor in generator.state().items()}, weights)
    ledger.finish("training", file_digest(weights))
    ledger.finish_if_open("validation")  # the looks at the loss
    checkpoint.path.unlink(missing_ok=True)
    return log


def _rungs(generator, recipe, statistics, priced, ledger, entropy, folder) -> tuple[Release, ...]:
    """Makes the lower releases of a ladder from the states that training kept; changes the generator."""
    from dpsynth.privacy.ladder import climb

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
    from dpsynth.data.io import read_table

    path = recipe.training.public_validation
    return None if path is None else capped(read_table(path, schema), schema)


def _generate(
    generator: Any, num_rows: int | None, *, seed: int, conditions: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Samples units and presents them as the input was: columns, order, dtypes, with fresh keys."""
    from dpsynth.data.dtypes import restore_frame, surrogate_keys

    schema, statistics = generator.encoder.schema, generator.encoder.statistics
    bought = statistics.num_rows if schema.sequence is None else statistics.num_units
    num = max(1, round(bought)) if num_rows is None else num_rows
    packed = generator.sample(num, seed=seed, conditions=conditions)
    frame = generator.encoder.decode(packed, seed=seed, conditions=conditions)
    for column in schema.columns:
        if column.name in schema.names and column.name not in frame:
            frame[column.name] = surrogate_keys(column, len(frame))
    return restore_frame(frame[list(schema.names)], schema)


def _release(generator, recipe, statistics, synthetic, ledger, entropy) -> Release:
    from dpsynth.privacy.release import Release

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
