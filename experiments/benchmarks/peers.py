"""Other packages as contenders, each in a Python of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.schema import Boolean, Categorical
from dpsynth.errors import DpsynthError

from .contenders import Contender

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package that waits to train.

    Args:
      epoch: trains one epoch, or some steps, and returns its seconds.
      steps: that this takes.
      version: of the package.
      width: of its encoded rows; None where it does not say.
    """

    epoch: Callable[[], float]
    steps: int
    version: str
    width: int | None = None


def peer_python(configured: str | None, package: str) -> str | None:
    """The Python that has a package: the configured one, or this one if it has it."""
    if configured is not None:
        return configured
    return sys.executable if importlib.util.find_spec(package) else None


@contextlib.contextmanager
def ctgan_peer(python: str, model: str, batch_size: int, num_rows: int, clock: str) -> Iterator[Peer]:
    """Starts the package's own training on a made-up table of the public Adult schema."""
    from .contenders import adult

    schema = adult()
    maker = Contender(name="tvae", settings={}, private=True, schema=schema)
    frame = maker.generator.encoder.decode(maker.units(num_rows).numpy(), seed=0)
    discrete = _discrete(schema)
    frame[discrete] = frame[discrete].astype(str)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        frame.to_csv(path, index=False)
        words = [model, str(path), str(batch_size), clock, ",".join(discrete)]
        with _started(python, "peer_ctgan.py", words, Path(folder)) as (ready, go):
            steps = -(-num_rows // batch_size)
            yield Peer(epoch=go, steps=steps, version=ready["version"], width=ready["width"])


@contextlib.contextmanager
def dgan_peer(
    python: str, frame: pd.DataFrame, schema: Schema, batch_size: int, steps: int, clock: str
) -> Iterator[Peer]:
    """Starts DGAN of `gretel-synthetics` on a long table, with its defaults."""
    from dpsynth.generators.dgan.settings import default_sample_len

    sequence = schema.sequence
    outside = (*sequence.attributes, sequence.time)
    facts = {
        "entity": schema.unit.column,
        "time": sequence.time,
        "attributes": list(sequence.attributes),
        "features": [c.name for c in schema.modelled if c.name not in outside],
        "discrete": _discrete(schema),
        "max_length": sequence.max_length,
        "sample_len": default_sample_len(sequence.max_length),
        "batch_size": batch_size,
        "steps": steps,
        "clock": clock,
    }
    with tempfile.TemporaryDirectory() as folder:
        table, told = Path(folder) / "table.csv", Path(folder) / "facts.json"
        frame.to_csv(table, index=False)
        told.write_text(json.dumps(facts), encoding="utf-8")
        with _started(python, "peer_dgan.py", [str(table), str(told)], Path(folder)) as (ready, go):
            yield Peer(epoch=go, steps=steps, version=ready["version"])


def _discrete(schema: Schema) -> list[str]:
    return [c.name for c in schema.modelled if isinstance(c, Categorical | Boolean)]


@contextlib.contextmanager
def _started(
    python: str, script: str, words: Sequence[str], folder: Path
) -> Iterator[tuple[dict[str, Any], Callable[[], float]]]:
    """A peer's process: what it said when it was ready, and the call that makes it train."""
    path = str(Path(__file__).with_name(script))
    with open(folder / "errors.txt", "w") as errors:
        process = subprocess.Popen(
            [python, path, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        line = process.stdout.readline()
        if not line:
            said = (folder / "errors.txt").read_text().strip().splitlines()
            raise DpsynthError(f"The peer in {script} did not start: {said[-1] if said else 'no message'}")

        def go() -> float:
            process.stdin.write("go\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield json.loads(line), go
    finally:
        process.kill()
        process.wait()
