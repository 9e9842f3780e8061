"""The suite `speed`: its settings, its rows, and which of them this machine can measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dpsynth.errors import InvalidInput, Problem

from .harness import Figure, checked_names


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Keys of conf/suite/speed.yaml.

    Args:
      name: of the suite.
      repeats: rounds in which the contenders take turns.
      steps: training steps per round.
      batch_sizes: of the training rows.
      clock: `cpu` (processor time of each process) or `wall`; rows about whole stages use a watch.
      threads: of torch, in all rows but `sample`.
      sampler_units: table sizes of the row `sampler`.
      peer_rows: table size of the row `ctgan_epoch`.
      large_units, large_steps: of the row `large`; the full setting is 10,000,000 and 2,000.
      encode_rows, sample_rows: of the rows of that name.
      gpu_batch_size: of the row `gpu`.
      peer_python: a Python that has the `ctgan` package; None tries this one.
      folder: for temporary tables; None takes the system's.
    """

    name: str = "speed"
    repeats: int = 15
    steps: int = 5
    batch_sizes: tuple[int, ...] = (500, 2000)
    clock: Literal["cpu", "wall"] = "cpu"
    threads: int = 1
    sampler_units: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    peer_rows: int = 10_000
    large_units: int = 1_000_000
    large_steps: int = 50
    encode_rows: int = 1_000_000
    sample_rows: int = 1_000_000
    gpu_batch_size: int = 65_536
    peer_python: str | None = None
    folder: str | None = None

    def __post_init__(self):
        counts = ("repeats", "steps", "threads", "peer_rows", "large_units", "large_steps", "encode_rows")
        broken = [
            Problem(f"suite.{key}", f"Expected {getattr(self, key)} to be at least 1.", "")
            for key in (*counts, "sample_rows", "gpu_batch_size")
            if getattr(self, key) < 1
        ]
        if broken:
            raise InvalidInput("The configuration", broken)

    @property
    def python(self) -> str:
        """The Python of the peers; `missing` has looked for it."""
        from .peers import peer_python

        return peer_python(self.peer_python, "ctgan")


ROWS = (
    *("tvae_step", "tvae_peer", "backends", "critic_step", "ctgan_epoch", "sampler", "memory", "large"),
    *("encode", "sample", "accounting", "gpu"),
)


def checked_rows(rows: Any) -> tuple[str, ...]:
    """The rows to measure, in order; None means all."""
    return checked_names(rows, ROWS)


def missing(row: str, settings: Settings) -> str | None:
    """Why a row cannot be measured here; None if it can."""
    if row in ("tvae_peer", "ctgan_epoch") and settings.python is None:
        return "needs the ctgan package: give suite.peer_python=PATH"
    if row == "gpu":
        import torch

        return None if torch.cuda.is_available() else "needs a CUDA device"
    return None


def measure(rows: tuple[str, ...], settings: Settings) -> Iterator[tuple[str, list[Figure] | str]]:
    """Measures row by row; yields each row's figures, or why it was skipped."""
    import torch

    from . import speed_steps, speed_tables

    torch.set_num_threads(settings.threads)
    for row in rows:
        why = missing(row, settings)
        if why is not None:
            yield row, why
            continue
        task: Callable[[Settings], list[Figure]] = getattr(speed_steps, row, None) or getattr(
            speed_tables, row
        )
        yield row, task(settings)
