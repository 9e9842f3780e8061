"""Settings of DGAN; light, so that a mistake in them answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dpsynth.data.sequences.encoder import SequenceOptions
from dpsynth.data.units.encoder import Encoder, OfSequences

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

    fits: ClassVar[type[Encoder]] = OfSequences
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


def default_sample_len(max_length: int) -> int:
    """The smallest divisor that leaves at most 50 LSTM steps."""
    divisors = (d for d in range(1, max_length + 1) if max_length % d == 0)
    return next(d for d in divisors if max_length // d <= _MAX_CELLS)
