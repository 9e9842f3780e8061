"""DGAN (DoppelGANger): sequences of numbers and categories with attributes, one entity per unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dpsynth.data.schema import Schema
from dpsynth.data.sequence_questions import SequenceQuestion, default_questions
from dpsynth.data.sequences import SequenceEncoder, SequenceOptions
from dpsynth.data.statistics import Statistics
from dpsynth.errors import InvalidInput, Problem
from dpsynth.generators.base import collect_rows, public_draw, seeded
from dpsynth.generators.dgan_nets import Generated, SequenceGenerator
from dpsynth.generators.dgan_objective import PlainObjective, PrivateObjective, anchor_steps
from dpsynth.generators.dgan_tensors import expand_attributes
from dpsynth.generators.sequence_anchor import SequenceAnchor

_MAX_CELLS = 50


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of DGAN; names and defaults of the first 28 are those of Gretel's `DGANConfig`.

    Args:
      max_sequence_len: steps; None takes the schema's.
      sample_len: steps made by each LSTM step, a divisor of `max_sequence_len`; None takes the smallest
        divisor that leaves at most 50 LSTM steps.
      cuda: use a GPU if there is one (`DGAN` class; in a run `training.device` decides).
      mixed_precision_training: bfloat16 on a GPU, without privacy only.
      batch_size: of training without privacy.
      epochs: of training without privacy through the `DGAN` class; in a run `training.epochs` decides.
      discriminator_rounds: critic rounds per generator step, without privacy.
      discriminator_num_layers, discriminator_num_units: of both critics (5 and 200 are the published ones).
      representation: None is `bins` with differential privacy and `scaled` without.
      private_loss: `hinge` or `wasserstein`, of the private critics.
      private_penalty_share: multiplies both penalty coefficients under privacy, where the penalty sits on
        generated samples.
      private_discriminator_num_layers, private_discriminator_num_units: of the private critics; a smaller
        network drowns in less noise.
      private_discriminator_rounds: private steps per generator step.
      private_batch_size: of generator steps under privacy.
      adversarial_weight: of the critics in the generator's loss under privacy; 0 trains none, and the whole
        budget buys histograms. Where this and the next are above 0, `privacy.marginals_share` divides it.
        0 is what measures best: critics trained by DP-SGD on thousands of entities add noise, not shape.
      anchor_weight: of bought histograms beside the critics under privacy; 0 buys none.
      anchor_steps: generator steps on bought histograms alone, before private training; they are free.
      anchor_learning_rate: of these steps.
      lags: distances at which pairs of a feature with itself are bought.
      feature_pairs, attribute_features: buy pairs of features at one step; of attributes and features.
    """

    max_sequence_len: int | None = None
    sample_len: int | None = None
    attribute_noise_dim: int = 10
    feature_noise_dim: int = 10
    attribute_num_layers: int = 3
    attribute_num_units: int = 100
    feature_num_layers: int = 1
    feature_num_units: int = 100
    use_attribute_discriminator: bool = True
    normalization: Literal["ZERO_ONE", "MINUSONE_ONE"] = "ZERO_ONE"
    apply_feature_scaling: bool = True
    apply_example_scaling: bool = True
    binary_encoder_cutoff: int = 150
    forget_bias: bool = False
    gradient_penalty_coef: float = 10.0
    attribute_gradient_penalty_coef: float = 10.0
    attribute_loss_coef: float = 1.0
    generator_learning_rate: float = 1e-3
    generator_beta1: float = 0.5
    discriminator_learning_rate: float = 1e-3
    discriminator_beta1: float = 0.5
    attribute_discriminator_learning_rate: float = 1e-3
    attribute_discriminator_beta1: float = 0.5
    batch_size: int = 1024
    epochs: int = 400
    discriminator_rounds: int = 1
    generator_rounds: int = 1
    cuda: bool = True
    mixed_precision_training: bool = False
    discriminator_num_layers: int = 5
    discriminator_num_units: int = 200
    representation: Literal["bins", "scaled"] | None = None
    private_loss: Literal["hinge", "wasserstein"] = "hinge"
    private_penalty_share: float = 0.1
    private_discriminator_num_layers: int = 2
    private_discriminator_num_units: int = 100
    private_discriminator_rounds: int = 1
    private_batch_size: int = 256
    adversarial_weight: float = 0.0
    anchor_weight: float = 1.0
    anchor_steps: int = 300
    anchor_learning_rate: float = 1e-2
    lags: tuple[int, ...] = (1, 2, 4)
    feature_pairs: bool = True
    attribute_features: bool = True

    def __post_init__(self) -> None:
        counts = (
            "attribute_noise_dim feature_noise_dim attribute_num_units feature_num_layers feature_num_units "
            "batch_size epochs discriminator_rounds generator_rounds discriminator_num_units "
            "private_discriminator_num_units private_discriminator_rounds private_batch_size"
        )
        rates = "generator_learning_rate discriminator_learning_rate attribute_discriminator_learning_rate"
        broken = [
            f"Expected {k}={getattr(self, k)} of at least 1." for k in counts.split() if getattr(self, k) < 1
        ]
        broken += [
            f"Expected {k}={getattr(self, k)} above 0." for k in rates.split() if not getattr(self, k) > 0
        ]
        for name, choices in (
            ("normalization", ("ZERO_ONE", "MINUSONE_ONE")),
            ("representation", (None, "bins", "scaled")),
            ("private_loss", ("hinge", "wasserstein")),
        ):
            if getattr(self, name) not in choices:
                broken.append(f"Expected {name}={getattr(self, name)!r} to be one of {choices}.")
        if not (self.adversarial_weight > 0 or self.anchor_weight > 0):
            broken.append("Expected adversarial_weight or anchor_weight above 0: nothing would be learnt.")
        length, part = self.max_sequence_len, self.sample_len
        if part is not None and (part < 1 or (length is not None and length % part)):
            broken.append(f"Expected sample_len={part} to divide max_sequence_len={length}.")
        if broken:
            raise ValueError(" ".join(broken))

    def options(self, private: bool) -> SequenceOptions:
        """How sequences are encoded for this configuration."""
        return SequenceOptions(
            representation=self.representation or ("bins" if private else "scaled"),
            normalization=self.normalization,
            apply_feature_scaling=self.apply_feature_scaling,
            apply_example_scaling=self.apply_example_scaling,
            binary_encoder_cutoff=self.binary_encoder_cutoff,
        )


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


def default_sample_len(max_length: int) -> int:
    """The smallest divisor that leaves at most 50 LSTM steps."""
    divisors = (d for d in range(1, max_length + 1) if max_length % d == 0)
    return next(d for d in divisors if max_length // d <= _MAX_CELLS)
