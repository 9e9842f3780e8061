"""The suite `sequences`: steps of DGAN, private over plain and over the peer, and generating."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpsynth.errors import InvalidInput, Problem

from .harness import Figure, Task, checked_names, interleave, milliseconds, ratio

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema

    from .contenders import Contender

ROWS = ("step", "peer", "generate")
_FEATURES = 5
_BLOCK = 10_000  # sequences generated at a time
_PUBLISHED = {"private_discriminator_num_layers": 5, "private_discriminator_num_units": 200}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Keys of conf/suite/sequences.yaml.

    Args:
      name: of the suite.
      repeats: rounds in which the contenders take turns.
      steps: training steps per round.
      batch_size: of all steps.
      num_units: made-up sequences to train on.
      max_length: of a sequence; it has five features.
      clock: `cpu` (processor time of each process) or `wall`.
      generate: sequences generated.
      threads: of torch when generating.
      peer_python: a Python that has `gretel-synthetics`; None tries this one.
    """

    name: str = "sequences"
    repeats: int = 9
    steps: int = 3
    batch_size: int = 250
    num_units: int = 5_000
    max_length: int = 24
    clock: Literal["cpu", "wall"] = "cpu"
    generate: int = 100_000
    threads: int = 2
    peer_python: str | None = None

    def __post_init__(self):
        counts = ("repeats", "steps", "batch_size", "num_units", "max_length", "generate", "threads")
        broken = [
            Problem(f"suite.{key}", f"Expected {getattr(self, key)} to be at least 1.", "")
            for key in counts
            if getattr(self, key) < 1
        ]
        if broken:
            raise InvalidInput("The configuration", broken)


def checked_rows(rows: Any) -> tuple[str, ...]:
    """The rows to measure, in order; None means all."""
    return checked_names(rows, ROWS)


def measure(rows: tuple[str, ...], settings: Settings) -> Iterator[tuple[str, list[Figure] | str]]:
    """Measures row by row; yields each row's figures, or why it was skipped."""
    import torch

    from .peers import peer_python

    torch.set_num_threads(1)
    for row in rows:
        if row == "peer" and peer_python(settings.peer_python, "gretel_synthetics") is None:
            yield row, "needs gretel-synthetics: give suite.peer_python=PATH"
            continue
        yield row, {"step": step, "peer": peer, "generate": generate}[row](settings)


def step(settings: Settings) -> list[Figure]:
    """A private step with its generator step over a plain one: the same networks, and as configured."""
    schema, size = _schema(settings), settings.batch_size
    same = {"representation": "bins", "batch_size": size, "private_batch_size": size}
    contenders = {
        "private": _contender(schema, True, **same, **_PUBLISHED),
        "private with its defaults, anchored": _contender(schema, True, anchored=True, **same),
        "plain": _contender(schema, False, **same),
    }
    units = contenders["plain"].units(settings.num_units)
    tasks: dict[str, Task] = {}
    for name, contender in contenders.items():
        private = name != "plain"
        one = (
            contender.private_step(size, units, generator_steps=True)
            if private
            else contender.plain_step(units)
        )
        tasks[name] = _repeated(one, settings.steps)
    seconds = interleave(tasks, settings.repeats, settings.clock)
    found = [milliseconds("step", f"{k}, B={size}", s, settings.steps) for k, s in seconds.items()]
    for name, goal in (("private", 1.3), ("private with its defaults, anchored", None)):
        label = f"{name} / plain, B={size}"
        found.append(ratio("step", label, seconds[name], seconds["plain"], goal=goal))
    return found


def peer(settings: Settings) -> list[Figure]:
    """A plain step over one of `gretel-synthetics`: the published networks, on the same table."""
    from .peers import dgan_peer, peer_python

    schema = _schema(settings)
    ours = _contender(schema, False, batch_size=settings.batch_size)
    units = ours.units(settings.num_units)
    frame = ours.generator.encoder.decode(units.numpy(), seed=0)
    task = _repeated(ours.plain_step(units), settings.steps)
    python = peer_python(settings.peer_python, "gretel_synthetics")
    with dgan_peer(python, frame, schema, settings.batch_size, settings.steps, settings.clock) as other:
        seconds = interleave({"ours": task, "peer": other.epoch}, settings.repeats, settings.clock)
    label = f"ours / gretel-synthetics {other.version}, B={settings.batch_size}"
    return [
        *(milliseconds("peer", k, s, settings.steps) for k, s in seconds.items()),
        ratio("peer", label, seconds["ours"], seconds["peer"], goal=1.0),
    ]


def generate(settings: Settings) -> list[Figure]:
    """Generating sequences, decoding them and writing them to Parquet, block by block."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from .memory_probe import resident_megabytes

    generator = _contender(_schema(settings), True, anchored=True).generator
    num, sizes = settings.generate, []
    torch.set_num_threads(settings.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            start, writer, done = time.perf_counter(), None, 0
            while done < num:
                size = min(_BLOCK, num - done)
                frame = generator.encoder.decode(generator.sample(size, seed=done), seed=done)
                frame["id"] += done
                table = pa.Table.from_pandas(frame, preserve_index=False)
                writer = writer or pq.ParquetWriter(Path(folder) / "rows.parquet", table.schema)
                writer.write_table(table)
                done += size
                sizes.append(resident_megabytes())
            writer.close()
            taken = time.perf_counter() - start
    finally:
        torch.set_num_threads(1)
    goal = 60.0 if num == 100_000 else None
    growth = max(sizes) - sizes[0]
    label = f"{num:,} sequences of {settings.max_length} × {_FEATURES} to Parquet"
    return [
        Figure(row="generate", name=label, value=taken, unit="seconds", goal=goal),
        Figure(row="generate", name="growth of memory after the first block", value=growth, unit="MB"),
    ]


def _schema(settings: Settings) -> Schema:
    """Sequences of one length with a category, a number and five numeric features."""
    from dpsynth.data.schema import Categorical, Continuous, Identifier, Integer, Schema, Sequence, Unit

    length = settings.max_length
    features = [Continuous(name=f"feature_{i}", min=0.0, max=1.0, clip=True) for i in range(_FEATURES)]
    return Schema(
        columns=(
            Identifier(name="id"),
            Integer(name="step", min=0, max=length - 1),
            Categorical(name="kind", values=tuple("abcd")),
            Continuous(name="level", min=0.0, max=1.0, clip=True),
            *features,
        ),
        unit=Unit(column="id", max_rows=length),
        sequence=Sequence(
            time="step",
            attributes=("kind", "level"),
            max_length=length,
            min_length=length,
            calendar=tuple(range(length)),
        ),
    )


def _contender(schema: Schema, private: bool, *, anchored: bool = False, **settings: Any) -> Contender:
    """DGAN over made-up statistics, with as many cells as sequences get, and made-up joint histograms."""
    import numpy as np

    from dpsynth.data.bought.statistics import Marginal, Statistics
    from dpsynth.generators import dgan

    from .contenders import Contender

    statistics = Statistics.made_up(schema, max_cells=12)
    if anchored:
        config = dgan.Config(**settings)
        encoder = dgan.Generator.encoder(config, schema, statistics, private=private)
        bought = tuple(
            Marginal(columns=q.columns, counts=np.ones(encoder.shape(q)), noise_stddev=1.0)
            for q in dgan.Generator.questions(config, schema, private=private)
        )
        statistics = replace(statistics, marginals=bought)
    return Contender(name="dgan", settings=settings, private=private, schema=schema, statistics=statistics)


def _repeated(one, times: int):
    from .contenders import repeated

    return repeated(one, times)
