"""Other packages as contenders, each in a Python of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dpsynth.data.schema import Boolean, Categorical
from dpsynth.errors import DpsynthError
from experiments.benchmarks.contenders import Contender


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The `ctgan` package, waiting to train one epoch.

    Args:
      epoch: trains one epoch and returns its seconds.
      steps: in one epoch.
      version: of the package.
      width: of its encoded rows.
    """

    epoch: Callable[[], float]
    steps: int
    version: str
    width: int


def peer_python(configured: str | None) -> str | None:
    """The Python that has `ctgan`: the configured one, or this one if it has it."""
    if configured is not None:
        return configured
    return sys.executable if importlib.util.find_spec("ctgan") else None


@contextlib.contextmanager
def ctgan_peer(python: str, model: str, batch_size: int, num_rows: int, clock: str) -> Iterator[Peer]:
    """Starts the package's own training on a made-up table of the public Adult schema."""
    from experiments.benchmarks.contenders import adult

    schema = adult()
    maker = Contender(name="tvae", settings={}, private=True, schema=schema)
    frame = maker.generator.encoder.decode(maker.units(num_rows).numpy(), seed=0)
    discrete = [c.name for c in schema.modelled if isinstance(c, Categorical | Boolean)]
    frame[discrete] = frame[discrete].astype(str)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        frame.to_csv(path, index=False)
        script = str(Path(__file__).with_name("peer_ctgan.py"))
        with open(Path(folder) / "errors.txt", "w") as errors:
            process = subprocess.Popen(
                [python, script, model, str(path), str(batch_size), clock, ",".join(discrete)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            line = process.stdout.readline()
            if not line:
                said = (Path(folder) / "errors.txt").read_text().strip().splitlines()
                raise DpsynthError(f"The peer {model} did not start: {said[-1] if said else 'no message'}")
            ready = json.loads(line)

            def epoch() -> float:
                process.stdin.write("go\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            steps = -(-num_rows // batch_size)
            yield Peer(epoch=epoch, steps=steps, version=ready["version"], width=ready["width"])
        finally:
            process.kill()
            process.wait()
