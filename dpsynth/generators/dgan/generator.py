"""DGAN (DoppelGANger): sequences of numbers and categories with attributes, one entity per unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.sequences.encoder import SequenceEncoder
from dpsynth.data.sequences.questions import SequenceQuestion, default_questions
from dpsynth.errors import InvalidInput, Problem
from dpsynth.generators.base import collect_rows, public_draw, seeded
from dpsynth.generators.dgan.anchor import SequenceAnchor
from dpsynth.generators.dgan.nets import Generated, SequenceGenerator
from dpsynth.generators.dgan.objective import PlainObjective, PrivateObjective, anchor_steps
from dpsynth.generators.dgan.settings import Config, default_sample_len
from dpsynth.generators.dgan.tensors import expand_attributes


class Generator:
    """DGAN, with both critics trained under DP-SGD as one module and the generator alone released.

    Formal guarantee: `state` and samples are functions of the generator's weights, which see real units
    only through privately trained critics and bought histograms; the unit is the entity.
    Source: Lin et al. (2020), Using GANs for Sharing Networked Time Series Data. Deviations: a generation
      flag per step is P(the sequence goes on); under privacy, columns are codes of bought cells, features
      are conditioned on drawn attributes, and the penalty sits on generated samples.
    """

    name: ClassVar[str] = "dgan"
    trains: ClassVar[bool] = True
    encoder_type: ClassVar[type[SequenceEncoder]] = SequenceEncoder

    @classmethod
    def trains_with(cls, config: Config, *, private: bool) -> bool:
        """Whether anything is trained on units; without critics histograms are all that is bought."""
        return not private or config.adversarial_weight > 0

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> SequenceEncoder:
        """The encoder whose units this generator learns."""
        return SequenceEncoder(schema, statistics, config.options(private))

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[SequenceQuestion, ...]:
        """Histograms worth buying as an anchor; none for scalars or without privacy. Public."""
        bins = config.options(private).representation == "bins"
        if private and not bins and not config.adversarial_weight:
            rule = "representation=scaled has no histograms to learn from, and adversarial_weight is 0."
            fix = "Set adversarial_weight=1 (DP-SGD), or representation=bins."
            raise InvalidInput("the configuration", [Problem("generator", rule, fix)])
        if not (private and bins and config.anchor_weight > 0):
            return ()
        return default_questions(
            schema,
            lags=config.lags,
            feature_pairs=config.feature_pairs,
            attribute_features=config.attribute_features,
        )

    def __init__(
        self, config: Config, encoder: SequenceEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, self.statistics, self.seed = config, encoder, statistics, seed
        layout = encoder.layout
        if config.max_sequence_len not in (None, layout.max_length):
            rule = f"max_sequence_len={config.max_sequence_len} is not the schema's {layout.max_length}."
            raise InvalidInput("the configuration", [Problem("generator", rule, "Leave it null.")])
        if private and config.mixed_precision_training:
            rule = "mixed_precision_training does not go with differential privacy."
            raise InvalidInput("the configuration", [Problem("generator", rule, "Set it to false.")])
        self.trains = self.trains_with(config, private=private)
        with seeded(seed):
            self.net = SequenceGenerator(
                layout,
                sample_len=config.sample_len or default_sample_len(layout.max_length),
                attribute_noise_dim=config.attribute_noise_dim,
                feature_noise_dim=config.feature_noise_dim,
                attribute_num_layers=config.attribute_num_layers,
                attribute_num_units=config.attribute_num_units,
                feature_num_layers=config.feature_num_layers,
                feature_num_units=config.feature_num_units,
                forget_bias=config.forget_bias,
                draws=encoder.options.representation == "bins",
                ordered={name: codec.num_ordered for name, codec in encoder.features.items()},
            )
        self.anchor = None
        if private and statistics.marginals and self.net.draws:
            self.anchor = SequenceAnchor(layout, statistics)
        if self.net.draws:
            lengths = self.anchor.length_shares() if self.anchor else None
            self.net.start_at(*self._shares(), lengths)

    def _shares(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bought frequencies of all cells of attributes and of features, flat, a little flattened."""
        found = []
        for group in (self.encoder.layout.attributes, self.encoder.layout.features):
            flat = torch.zeros(sum(s.size for s in group))
            for s in group:
                shares = torch.ones(s.size)
                if s.column in self.statistics.domain.names:
                    shares = torch.as_tensor(self.statistics.probabilities(s.column), dtype=torch.float32)
                flat[s.start : s.start + s.size] = 0.99 * shares / shares.sum() + 0.01 / s.size
            found.append(flat)
        return found[0], found[1]

    def to(self, device: torch.device | str) -> Generator:
        """Moves the network, in place."""
        self.net.to(device)
        return self

    def fit_public(self) -> None:
        """Trains on bought histograms alone, if there are any; reads no unit and is free."""
        if self.anchor is not None and self.config.anchor_steps > 0:
            draw = public_draw(self.seed + 1, self.net.heads.weight.device)
            anchor_steps(self.net, self.anchor, self.config, steps=self.config.anchor_steps, draw=draw)

    def objective(self) -> PrivateObjective:
        return PrivateObjective(self.net, self.config, self.anchor, seed=self.seed + 2)

    def plain_objective(self) -> PlainObjective:
        return PlainObjective(self.net, self.config, seed=self.seed + 2)

    def fit_release(self) -> None:
        return None

    def sample(
        self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None, batch_size: int = 2048
    ) -> np.ndarray:
        """Draws exactly `num` packed units; features of conditioned attributes follow the conditions."""
        draw = public_draw(seed, self.net.heads.weight.device)

        def draw_batch(size: int) -> np.ndarray:
            return self.sample_from(*self.net.noise(size, draw), draw=draw, conditions=conditions)

        return collect_rows(num, draw_batch, width=self.encoder.layout.packed_width, batch_size=batch_size)

    @torch.no_grad()
    def sample_from(
        self,
        attribute_noise: Tensor,
        feature_noise: Tensor,
        *,
        draw: torch.Generator,
        conditions: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Packs what given noise makes; equal noise and equal draws give equal bits."""
        self.net.eval()
        given = None
        if conditions:
            codes = self.encoder.encode_attributes(conditions, len(attribute_noise))
            given = expand_attributes(self.encoder.layout, codes, attribute_noise)
        made: Generated = self.net.generate(attribute_noise, feature_noise, draw=draw, given=given)
        return self.net.pack(made, draw)

    def state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.net.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(dict(state))
