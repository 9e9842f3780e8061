"""A trained DGAN on disk: weights (safetensors) and descriptions (JSON), no pickle and no row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.sequences.arrays import LongTable
from dpsynth.generators.dgan import Config, Generator

if TYPE_CHECKING:
    from dpsynth.privacy.release.release import Release

_FACTS, _WEIGHTS, _RELEASE = "dgan.json", "generator.safetensors", "release"
_GROUPS = ("attributes", "features", "discrete", "steps", "untyped")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training leaves.

    Args:
      release: with privacy; what may leave.
      table: the roles of columns, without rows.
    """

    generator: Generator
    table: LongTable
    release: Release | None = None

    @property
    def claim(self) -> str:
        return "NON-PRIVATE" if self.release is None else self.release.claim


def save(trained: Trained, path: str | Path) -> None:
    """Writes a folder that `load` reads; with privacy it holds the whole release, to be verified."""
    from safetensors.torch import save_file

    generator, folder = trained.generator, Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"claim": trained.claim, "table": asdict(trained.table)}
    if trained.release is not None:
        trained.release.save(folder / _RELEASE)
    else:
        save_file(generator.state(), str(folder / _WEIGHTS))
        content |= {
            "config": asdict(generator.config),
            "seed": generator.seed,
            "schema": generator.encoder.schema.to_dict(),
            "statistics": generator.statistics.to_dict(),
        }
    (folder / _FACTS).write_text(json.dumps(content), encoding="utf-8")


def load(path: str | Path) -> Trained:
    """Reads what `save` wrote; needs no data.

    Raises:
      GuaranteeVoid: a file of the release is missing or was changed.
    """
    folder = Path(path)
    content = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    table = content["table"]
    groups = {key: tuple(table.pop(key)) for key in _GROUPS}
    columns = tuple((name, dtype) for name, dtype in table.pop("columns"))
    roles = LongTable(**{**table, "frame": None}, **groups, columns=columns)
    if "config" in content:
        return Trained(generator=_open_generator(folder, content), table=roles)
    from dpsynth import pipeline
    from dpsynth.privacy.release.release import Release

    release = Release.load(folder / _RELEASE)
    return Trained(generator=pipeline.rebuild(release), table=roles, release=release)


def _open_generator(folder: Path, content: Mapping[str, Any]) -> Generator:
    from safetensors.torch import load_file

    config = Config(**{**content["config"], "lags": tuple(content["config"]["lags"])})
    schema = Schema.from_dict(content["schema"])
    statistics = Statistics.from_dict(content["statistics"], schema)
    encoder = Generator.encoder(config, schema, statistics, private=False)
    generator = Generator(config, encoder, statistics, seed=content["seed"], private=False)
    generator.load_state(load_file(str(folder / _WEIGHTS)))
    return generator
