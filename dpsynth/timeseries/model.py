"""The class `DGAN`: trains on arrays or tables, and generates what has their shape."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dpsynth.data.sequences.arrays import ENTITY, WINDOWS, from_frame, from_numpy, to_numpy, to_wide
from dpsynth.errors import DpsynthError, InvalidInput, Problem
from dpsynth.generators.base import public_draw
from dpsynth.generators.dgan import Config, Generator
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.timeseries import saved
from dpsynth.timeseries.declared import Declared, declared_schema
from dpsynth.timeseries.observed import exact_statistics, observed_schema
from dpsynth.timeseries.progress import ProgressCallback, ProgressInfo, by_epochs

if TYPE_CHECKING:
    from dpsynth.privacy.release.release import Release


class DGAN:
    """DoppelGANger for arrays and tables of sequences.

    Formal guarantee: with `privacy` as of `dpsynth.pipeline.run`, where the example with all its steps is the
    unit; `release` holds what may leave. Without `privacy` none: every artefact is NON-PRIVATE.

    Args:
      config: `Config`; it is never changed.
      privacy: the declared budget; None trains without privacy.
      declared: public facts about the sequences; with `privacy` only.
      training: how critics are trained by DP-SGD, where `config.adversarial_weight` asks for them.
      seed: public: weights, latents and order of batches. Never the privacy noise.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        privacy: PrivacyConfig | None = None,
        declared: Declared | None = None,
        training: TrainingConfig | None = None,
        seed: int = 0,
    ):
        if privacy is not None and not privacy.private:
            raise ValueError(
                f"Expected privacy.name={privacy.name!r} to be 'dp'; None trains without privacy."
            )
        self.config, self.privacy, self.seed = config or Config(), privacy, seed
        self.declared, self.training = declared or Declared(), training or TrainingConfig()
        self._trained: saved.Trained | None = None

    @property
    def claim(self) -> str:
        """What holds of all that is generated: `epsilon=…, delta=…`, or `NON-PRIVATE`."""
        return self._known().claim

    @property
    def release(self) -> Release | None:
        """What may leave, with its ledger and certificate; None without privacy."""
        return self._known().release

    def train_numpy(
        self,
        features: np.ndarray | Many[np.ndarray],
        feature_types: Many[str] | None = None,
        attributes: np.ndarray | None = None,
        attribute_types: Many[str] | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        folder: str | Path | None = None,
    ) -> DGAN:
        """Trains on features [example, step, feature], or a list of [step, feature] where lengths differ.

        Args:
          folder: of the ledger and the release; needed with privacy. An interrupted run goes on there.
        """
        table = from_numpy(features, feature_types, attributes, attribute_types, cast=self.privacy is None)
        fixed = features.shape[1] if isinstance(features, np.ndarray) else None
        return self._train(table, None, fixed, progress_callback, folder)

    def train_dataframe(
        self,
        df: pd.DataFrame,
        attribute_columns: Many[str] | None = None,
        feature_columns: Many[str] | None = None,
        example_id_column: str | None = None,
        time_column: str | None = None,
        discrete_columns: Many[str] | None = None,
        df_style: str = "wide",
        progress_callback: ProgressCallback | None = None,
        *,
        calendar: Many[Any] | None = None,
        folder: str | Path | None = None,
    ) -> DGAN:
        """Trains on a wide table (a row per example) or a long one (a row per example and step).

        Args:
          calendar: declared times of steps 1, 2, …; without them the times of a long table are modelled.
          folder: as of `train_numpy`.
        """
        table = from_frame(
            df,
            attribute_columns=attribute_columns,
            feature_columns=feature_columns,
            example_id_column=example_id_column,
            time_column=time_column,
            discrete_columns=discrete_columns,
            df_style=df_style,
            cast=self.privacy is None,
        )
        if self.privacy is not None and df.attrs.get(WINDOWS):
            rule = "are cut from one series: the series, not the window, is the unit."
            problem = Problem("windows", rule, "Train on them without privacy only.")
            raise InvalidInput("training under differential privacy", [problem])
        fixed = None
        if table.style == "wide":
            fixed = len(table.steps)
            calendar = range(fixed)
        return self._train(table, calendar, fixed, progress_callback, folder)

    def _train(self, table, calendar, fixed: int | None, progress_callback, folder) -> DGAN:
        release = None
        if self.privacy is None:
            generator = self._train_openly(table, calendar, progress_callback)
        else:
            generator, release = self._train_privately(table, calendar, fixed, progress_callback, folder)
        roles = replace(table, frame=None)  # no row, and no list of categories, stays
        self._trained = saved.Trained(generator=generator, table=roles, release=release)
        return self

    def _train_privately(
        self, table, calendar, fixed: int | None, progress_callback, folder
    ) -> tuple[Generator, Release]:
        from dpsynth import pipeline
        from dpsynth.data.tables.io import read_table
        from dpsynth.data.tables.table import PrivateTable

        if folder is None or (Path(folder) / "release").exists():
            rule = "is missing." if folder is None else "holds a finished release."
            fix = "Give a new one, for the ledger and the release."
            raise InvalidInput("training under differential privacy", [Problem("folder", rule, fix)])
        schema = declared_schema(
            table,
            self.declared,
            calendar=calendar,
            max_sequence_len=self.config.max_sequence_len,
            fixed_length=fixed,
        )
        recipe = pipeline.Recipe(
            generator=Generator.name,
            settings=self.config,
            privacy=self.privacy,
            training=self.training,
            seed=self.seed,
        )
        training, on_step = pipeline.plan(schema, recipe).training, None
        if progress_callback is not None and training is not None:
            on_step = by_epochs(progress_callback, training.sample_rate)
        rows = PrivateTable(read_table(table.frame, schema), schema)
        release = pipeline.run(rows, recipe, folder, on_step=on_step).release
        return pipeline.rebuild(release), release

    def _train_openly(self, table, calendar, progress_callback) -> Generator:
        config = self.config
        schema = observed_schema(table, calendar, config.max_sequence_len)
        frame = table.frame
        statistics = exact_statistics(frame, schema)
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
        return generator

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
        long = long.rename(columns={self._known().table.entity: ENTITY})
        return to_numpy(long, self._known().table.attributes, self._known().table.features)

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
        if self._known().table.style == "wide":
            return to_wide(long, self._known().table)
        return long.drop(columns=[ENTITY]) if self._known().table.style == "numpy" else long

    def _long(self, n, attribute_noise, feature_noise, conditions, seed: int) -> pd.DataFrame:
        generator = self._known().generator
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
        net = self._known().generator.net
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
        """Writes a folder that `load` reads: see `dpsynth.timeseries.saved`."""
        saved.save(self._known(), path)

    @classmethod
    def load(cls, path: str | Path) -> DGAN:
        """Reads what `save` wrote; generates again, on any machine, without the data."""
        trained = saved.load(path)
        model = cls(trained.generator.config, seed=trained.generator.seed)
        model._trained = trained
        return model

    def _known(self) -> saved.Trained:
        if self._trained is None:
            raise DpsynthError("The model is not trained. Call train_numpy or train_dataframe, or load one.")
        return self._trained
