"""DGAN for library users: arrays or tables in, the same shape of arrays or tables out.

This front door trains WITHOUT privacy: bounds and categories are read off the data. For differential
privacy declare a schema and use `dpsynth.pipeline` (or `python -m experiments.train`), which trains the same
generator and pays for everything it learns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dpsynth.data.grid import fine_domain
from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Identifier,
    Integer,
    Schema,
    Sequence,
    Unit,
)
from dpsynth.data.sequence_input import (
    ENTITY,
    LongTable,
    from_frame,
    from_numpy,
    parsed_dates,
    to_numpy,
    to_wide,
    windows,
)
from dpsynth.data.statistics import Marginal, Statistics
from dpsynth.errors import DpsynthError, InvalidInput, Problem
from dpsynth.generators.base import public_draw
from dpsynth.generators.dgan import Config, Generator

__all__ = ["DGAN", "Config", "ProgressInfo", "windows"]


@dataclass(frozen=True, kw_only=True)
class ProgressInfo:
    """Where training is: counts from 0, as `progress_callback` gets it."""

    epoch: int
    total_epochs: int
    batch: int
    total_batches: int


class DGAN:
    """DoppelGANger, trained without privacy; every artefact it makes is NON-PRIVATE.

    Args:
      config: `Config`; it is never changed.
      seed: weights, latents and order of batches.
    """

    def __init__(self, config: Config | None = None, *, seed: int = 0):
        self.config, self.seed = config or Config(), seed
        self._table: LongTable | None = None
        self._generator: Generator | None = None

    def train_numpy(
        self,
        features: np.ndarray | Many[np.ndarray],
        feature_types: Many[str] | None = None,
        attributes: np.ndarray | None = None,
        attribute_types: Many[str] | None = None,
        progress_callback: Callable[[ProgressInfo], None] | None = None,
    ) -> DGAN:
        """Trains on features [example, step, feature], or a list of [step, feature] where lengths differ."""
        table = from_numpy(features, feature_types, attributes, attribute_types)
        return self._train(table, None, progress_callback)

    def train_dataframe(
        self,
        df: pd.DataFrame,
        attribute_columns: Many[str] | None = None,
        feature_columns: Many[str] | None = None,
        example_id_column: str | None = None,
        time_column: str | None = None,
        discrete_columns: Many[str] | None = None,
        df_style: str = "wide",
        progress_callback: Callable[[ProgressInfo], None] | None = None,
        *,
        calendar: Many[Any] | None = None,
    ) -> DGAN:
        """Trains on a wide table (a row per example) or a long one (a row per example and step).

        Args:
          calendar: declared times of steps 1, 2, …; without them the times of a long table are modelled.
        """
        table = from_frame(
            df,
            attribute_columns=attribute_columns,
            feature_columns=feature_columns,
            example_id_column=example_id_column,
            time_column=time_column,
            discrete_columns=discrete_columns,
            df_style=df_style,
        )
        if table.style == "wide":
            calendar = range(len(table.frame) // max(len(df), 1))
        return self._train(table, calendar, progress_callback)

    def _train(self, table, calendar, progress_callback) -> DGAN:
        config = self.config
        schema = _schema(table, calendar, config)
        frame = table.frame
        statistics = exact_statistics(frame, schema)
        self._table = replace(table, frame=frame.iloc[:0])
        encoder = Generator.encoder(config, schema, statistics, private=False)
        units = torch.from_numpy(encoder.encode(frame))
        if len(units) < 2:
            rule = "has one example; a GAN learns from many."
            raise InvalidInput("the table", [Problem("examples", rule, "Cut a long series with `windows`.")])
        device = "cuda" if config.cuda and torch.cuda.is_available() else "cpu"
        generator = Generator(config, encoder, statistics, seed=self.seed, private=False).to(device)
        objective = generator.plain_objective()
        objective.bind(units.to(device))
        draw = public_draw(self.seed, device)
        total = objective.steps_per_epoch
        for epoch in range(config.epochs):
            for batch in range(total):
                objective.step(draw)
                if progress_callback is not None:
                    where = ProgressInfo(
                        epoch=epoch, total_epochs=config.epochs, batch=batch, total_batches=total
                    )
                    progress_callback(where)
        self._generator = generator
        return self

    def generate_numpy(
        self,
        n: int | None = None,
        attribute_noise: Tensor | None = None,
        feature_noise: Tensor | None = None,
        *,
        conditions: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> tuple[np.ndarray | None, np.ndarray | list[np.ndarray]]:
        """Generates attributes [n, a] (None without any) and features; a list where lengths differ.

        Give either n, or both noise tensors; equal noise gives equal bits.
        """
        long = self._long(n, attribute_noise, feature_noise, conditions, seed)
        long = long.rename(columns={self._table.entity: ENTITY})
        return to_numpy(long, self._table.attributes, self._table.features)

    def generate_dataframe(
        self,
        n: int | None = None,
        attribute_noise: Tensor | None = None,
        feature_noise: Tensor | None = None,
        *,
        conditions: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Generates n examples in the style, names and dtypes of the table that was trained on."""
        long = self._long(n, attribute_noise, feature_noise, conditions, seed)
        if self._table.style == "wide":
            return to_wide(long, self._table)
        return long.drop(columns=[ENTITY]) if self._table.style == "numpy" else long

    def _long(self, n, attribute_noise, feature_noise, conditions, seed: int) -> pd.DataFrame:
        generator = self._trained()
        if (n is None) == (attribute_noise is None and feature_noise is None):
            raise ValueError("Expected either n, or attribute_noise and feature_noise.")
        if n is not None:
            if n < 1:
                raise ValueError(f"Expected n={n} of at least 1.")
            units = generator.sample(n, seed=seed, conditions=conditions)
        else:
            noise = self._checked(attribute_noise, feature_noise)
            device = generator.net.heads.weight.device
            draw = public_draw(seed, device)
            units = generator.sample_from(*(x.to(device) for x in noise), draw=draw, conditions=conditions)
        return generator.encoder.decode(units, seed=seed, conditions=conditions)

    def _checked(self, attribute_noise: Tensor | None, feature_noise: Tensor | None) -> tuple[Tensor, Tensor]:
        net = self._trained().net
        if attribute_noise is None or feature_noise is None:
            raise ValueError("Expected attribute_noise and feature_noise, both.")
        num = len(attribute_noise)
        wanted = ((num, net.noise_dims[0]), (num, net.num_cells, net.noise_dims[1]))
        for name, given, shape in zip(
            ("attribute_noise", "feature_noise"), (attribute_noise, feature_noise), wanted
        ):
            if tuple(given.shape) != shape:
                raise ValueError(f"Expected {name} of shape {shape}, got {tuple(given.shape)}.")
        return attribute_noise, feature_noise

    def save(self, path: str | Path) -> None:
        """Writes a folder with weights (safetensors) and a description (JSON); no pickle."""
        from safetensors.torch import save_file

        generator, folder = self._trained(), Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(generator.state(), str(folder / "generator.safetensors"))
        content = {
            "claim": "NON-PRIVATE",
            "config": asdict(self.config),
            "seed": self.seed,
            "schema": generator.encoder.schema.to_dict(),
            "statistics": generator.statistics.to_dict(),
            "table": asdict(replace(self._table, frame=None)),
        }
        (folder / "dgan.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> DGAN:
        """Reads what `save` wrote; generates again, on any machine."""
        from safetensors.torch import load_file

        folder = Path(path)
        content = json.loads((folder / "dgan.json").read_text(encoding="utf-8"))
        config = content["config"]
        model = cls(Config(**{**config, "lags": tuple(config["lags"])}), seed=content["seed"])
        schema = Schema.from_dict(content["schema"])
        statistics = Statistics.from_dict(content["statistics"], schema)
        encoder = Generator.encoder(model.config, schema, statistics, private=False)
        model._generator = Generator(model.config, encoder, statistics, seed=model.seed, private=False)
        model._generator.load_state(load_file(str(folder / "generator.safetensors")))
        table = content["table"]
        groups = {key: tuple(table.pop(key)) for key in ("attributes", "features", "discrete", "steps")}
        columns = tuple((name, dtype) for name, dtype in table.pop("columns"))
        model._table = LongTable(**{**table, "frame": None}, **groups, columns=columns)
        return model

    def _trained(self) -> Generator:
        if self._generator is None:
            raise DpsynthError("The model is not trained. Call train_numpy or train_dataframe, or load one.")
        return self._generator


def exact_statistics(frame: pd.DataFrame, schema: Schema) -> Statistics:
    """Exact histograms, for training without privacy only: every entity weighs 1."""
    domain = fine_domain(schema)
    entity = pd.factorize(frame[schema.unit.column])[0]
    share = 1.0 / np.bincount(entity)[entity]
    fine = {
        cells.column.name: Marginal(
            columns=(cells.column.name,),
            counts=np.bincount(cells.codes(frame[cells.column.name]), weights=share, minlength=cells.size),
            noise_stddev=0.0,
        )
        for cells in domain.cells
    }
    num = float(entity.max(initial=-1) + 1)
    return Statistics(num_units=num, num_rows=num, domain=domain, fine=fine)


def _schema(table: LongTable, calendar: Many[Any] | None, config: Config) -> Schema:
    """Reads a schema off the data: for training without privacy only."""
    frame = table.frame
    columns: list[Column] = [Identifier(name=table.entity, dtype=str(frame[table.entity].dtype))]
    modelled = [c for c in frame.columns if c in (table.time, *table.attributes, *table.features)]
    columns += [_column(frame[name], name, discrete=name in table.discrete) for name in modelled]
    lengths = frame.groupby(table.entity, sort=False).size()
    most = int(lengths.max())
    if config.max_sequence_len is not None and most > config.max_sequence_len:
        rule = f"is longer than max_sequence_len={config.max_sequence_len}: {most} steps."
        raise InvalidInput("the table", [Problem("an example", rule, "Raise it, or cut the sequences.")])
    return Schema(
        columns=tuple(columns),
        unit=Unit(column=table.entity, max_rows=most),
        sequence=Sequence(
            time=table.time,
            attributes=table.attributes,
            max_length=config.max_sequence_len or most,
            min_length=int(lengths.min()),
            calendar=None if calendar is None else tuple(calendar),
        ),
    )


def _column(series: pd.Series, name: str, *, discrete: bool) -> Column:
    nullable, known = bool(series.isna().any()), series.dropna()
    dtype = None if nullable else str(series.dtype)
    if pd.api.types.is_bool_dtype(series):
        return Boolean(name=name, nullable=nullable, dtype=dtype)
    if discrete or not len(known):
        values = sorted(known.unique().tolist(), key=lambda v: (str(type(v)), v)) or [""]
        return Categorical(name=name, values=tuple(values), nullable=nullable, dtype=dtype)
    if pd.api.types.is_integer_dtype(known):
        bounds = (int(known.min()), int(known.max()))
        return Integer(name=name, min=bounds[0], max=bounds[1], nullable=nullable, dtype=dtype)
    if pd.api.types.is_numeric_dtype(known):
        return Continuous(name=name, min=float(known.min()), max=float(known.max()), nullable=nullable)
    if pd.api.types.is_datetime64_any_dtype(known):
        parsed, style = known, "%Y-%m-%d %H:%M:%S"
    else:
        parsed, style = parsed_dates(known)
    low, high = (parsed.min().strftime(style), parsed.max().strftime(style))
    return Datetime(name=name, format=style, min=low, max=high, nullable=nullable, dtype=dtype)
