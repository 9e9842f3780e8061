"""Everything around the steps: sampling units, memory, large tables, encoding, generating, accounting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .contenders import NUM_UNITS, Contender, adult, repeated
from .harness import Figure, interleave, milliseconds, ratio
from .memory_probe import peak_megabytes, reset_peak, resident_megabytes

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

    from .speed import Settings


_BATCHES = 10  # of the row sampler, per round: a single one is too short for the clock


def sampler(settings: Settings) -> list[Figure]:
    """One batch of units against Opacus' `DPDataLoader`, at an expected batch of 500."""
    import torch
    from opacus.data_loader import DPDataLoader

    from dpsynth.privacy.noise.entropy import AesEntropy
    from dpsynth.privacy.training.sampling import PoissonSampler, ResidentUnits

    found = []
    for num in settings.sampler_units:
        rate, units = 500 / num, torch.rand(num, 20)
        ours, store = PoissonSampler(num, rate, AesEntropy()), ResidentUnits(units)
        batches = _endless(DPDataLoader(torch.utils.data.TensorDataset(units), sample_rate=rate))
        tasks = {
            "ours": repeated(lambda store=store, ours=ours: store.take(ours.draw()), _BATCHES),
            "opacus": repeated(lambda batches=batches: next(batches), _BATCHES),
        }
        seconds = interleave(tasks, settings.repeats, settings.clock)
        name = f"DPDataLoader / ours, N={num:,}"
        found += [
            milliseconds("sampler", f"ours, N={num:,}", seconds["ours"], _BATCHES),
            ratio("sampler", name, seconds["opacus"], seconds["ours"], goal=10.0, at_least=True),
        ]
    return found


def _ignore(_value: object) -> None:
    return None


def _endless(loader) -> Iterator:
    while True:
        yield from loader


def memory(settings: Settings) -> list[Figure]:
    """Peak memory of training at B = 10,000, private over plain, each in its own process.

    `private` cuts the batch as `physical_batch_size=auto` does; `unsplit` passes it through at once.
    """
    peaks = {}
    for kind in ("private", "unsplit", "plain"):
        command = [sys.executable, "-m", f"{__package__}.memory_probe", kind, "10000"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[kind] = json.loads(done.stdout.splitlines()[-1])
    above = {kind: peak["peak"] - peak["start"] for kind, peak in peaks.items()}
    whole = {kind: peak["peak"] for kind, peak in peaks.items()}
    return [
        *(Figure(row="memory", name=f"{k} peak, B=10,000", value=v, unit="MB") for k, v in whole.items()),
        *(
            Figure(
                row="memory",
                name=f"{kind} / plain, {what}",
                value=sizes[kind] / sizes["plain"],
                unit="ratio",
                goal=1.3 if kind == "private" else None,
            )
            for kind in ("private", "unsplit")
            for what, sizes in (("whole process", whole), ("above the idle process", above))
        ),
    ]


def large(settings: Settings) -> list[Figure]:
    """Steps of B = 4096 over a Parquet file of 20 columns, against a resident table of 100,000 rows."""
    from dpsynth.privacy.training.sampling import MappedUnits, parquet_blocks

    schema, batch_size, given = _wide_schema(), 4096, {"size": "medium", "representation": "bins"}
    contender = Contender(name="tvae", settings=given, private=True, schema=schema)
    encoder = contender.generator.encoder
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        path = Path(folder) / "table.parquet"
        _write_table(path, schema, settings.large_units)
        reset_peak()
        start = time.perf_counter()
        store = MappedUnits(parquet_blocks(str(path), encoder.encode), folder=folder)
        packing = time.perf_counter() - start
        other = Contender(name="tvae", settings=given, private=True, schema=schema)
        small = other.units(100_000)
        tasks = {
            "large": contender.private_step(batch_size, store),
            "small": other.private_step(batch_size, small),
        }
        seconds = interleave(tasks, settings.large_steps, "wall")
    peak = peak_megabytes()
    label = f"N={settings.large_units:,}"
    return [
        Figure(row="large", name=f"packing from Parquet, {label}", value=packing, unit="seconds"),
        Figure(row="large", name=f"peak of the process, {label}", value=peak, unit="MB", goal=8192.0),
        milliseconds("large", f"step, {label}", seconds["large"]),
        ratio("large", f"step, {label} / N=100,000", seconds["large"], seconds["small"], goal=1.5),
    ]


def _wide_schema() -> Schema:
    from dpsynth.data.schema import Categorical, Continuous, Schema

    numbers = [Continuous(name=f"number_{i}", min=0.0, max=1.0, clip=True) for i in range(10)]
    lists = [Categorical(name=f"list_{i}", values=tuple(range(8))) for i in range(10)]
    return Schema(version=1, columns=(*numbers, *lists))


def _write_table(path: Path, schema: Schema, num: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(0), None
    for start in range(0, num, 250_000):
        size = min(250_000, num - start)
        block = {
            c.name: rng.random(size) if c.name.startswith("number") else rng.integers(0, 8, size)
            for c in schema.columns
        }
        table = pa.table(block)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def encode(settings: Settings) -> list[Figure]:
    """Encoding tables of the Adult schema, as many rows as Adult has and more."""
    found = []
    for representation in ("bins", "modes"):
        given = {"representation": representation}
        contender = Contender(name="tvae", settings=given, private=True, schema=adult())
        block = _adult_rows(contender, NUM_UNITS)
        encoder = contender.generator.encoder
        for num, goal in ((NUM_UNITS, 1.0), (settings.encode_rows, 15.0)):
            frame = block.sample(num, replace=True, random_state=0, ignore_index=True)
            start = time.perf_counter()
            encoder.encode(frame)
            taken = time.perf_counter() - start
            goal = goal if num in (NUM_UNITS, 1_000_000) else None
            name = f"{representation}, {num:,} rows"
            found.append(Figure(row="encode", name=name, value=taken, unit="seconds", goal=goal))
    return found


def _adult_rows(contender: Contender, num: int) -> pd.DataFrame:
    return contender.generator.encoder.decode(contender.units(num).numpy(), seed=0)


def sample(settings: Settings) -> list[Figure]:
    """Generating rows, decoding them and writing them to Parquet, block by block, on two threads."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    found, num = [], settings.sample_rows
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    try:
        for name in ("tvae", "ctgan"):
            generator = Contender(name=name, settings={}, private=True, schema=adult()).generator
            peaks = []
            with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
                start, writer, done = time.perf_counter(), None, 0
                while done < num:
                    size = min(100_000, num - done)
                    frame = generator.encoder.decode(generator.sample(size, seed=done), seed=done)
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                    writer = writer or pq.ParquetWriter(Path(folder) / "rows.parquet", table.schema)
                    writer.write_table(table)
                    done += size
                    peaks.append(resident_megabytes())
                writer.close()
                taken = time.perf_counter() - start
            goal = 30.0 if num == 1_000_000 else None
            label = f"{name}, {num:,} rows to Parquet"
            found.append(Figure(row="sample", name=label, value=taken, unit="seconds", goal=goal))
            growth = max(peaks) - peaks[0]
            found.append(Figure(row="sample", name=f"{name}, growth of memory", value=growth, unit="MB"))
    finally:
        torch.set_num_threads(1)
    return found


def accounting(settings: Settings) -> list[Figure]:
    """Epsilon of a training by privacy loss distributions, and the search for the noise that meets one."""
    from dp_accounting import dp_event

    from dpsynth.privacy.accounting import accountants as accountant
    from dpsynth.privacy.accounting.calibration import training_noise_multiplier

    step = dp_event.PoissonSampledDpEvent(0.015, dp_event.GaussianDpEvent(1.1))
    parts = accountant.Ingredients.of([dp_event.SelfComposedDpEvent(step, 2000)])
    others = [dp_event.GaussianDpEvent(20.0)]

    def calibrate(epsilon: float) -> None:
        training_noise_multiplier(others, sample_rate=0.015, steps=2000, epsilon=epsilon, delta=1e-5)

    tasks = {
        "epsilon": lambda: _ignore(accountant.pld_epsilon(parts, 1e-5)),
        "calibration to epsilon=1": lambda: calibrate(1.0),
        "calibration to epsilon=30": lambda: calibrate(30.0),
    }
    seconds = interleave(tasks, max(3, settings.repeats // 4), settings.clock)
    found = []
    for name, taken in seconds.items():
        value = milliseconds("accounting", f"PLD {name}", taken, 1_000)
        found.append(replace(value, unit="seconds", goal=0.2 if name == "epsilon" else 2.0))
    return found
