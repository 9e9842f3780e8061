"""Settings of CTGAN; light, so that a mistake in them answers at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

from dpsynth.data.units.encoder import Encoder, OfRows
from dpsynth.generators.base import check_settings


class Widths(NamedTuple):
    """Layer widths of the two players."""

    embedding: int
    generator: tuple[int, ...]
    critic: tuple[int, ...]


SIZES = {
    "small": Widths(64, (128, 128), (64, 64)),
    "medium": Widths(128, (256, 256), (128, 128)),
    "large": Widths(128, (256, 256), (256, 256)),  # as published
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of CTGAN. None stands for the published value without privacy, and for a value that suits
    DP-SGD with it: a smaller critic sees less noise, and steps of the generator are free.

    Args:
      size: widths by name (None: `medium` with privacy, `large` without); the next three override it.
      representation: None is `bins` with privacy and `modes` without.
      dropout: of the critic (None: 0.25 with privacy, 0.5 without).
      lipschitz: what bounds the critic's slope: the gradient penalty, or a projection of its layers after
        each step to singular values of at most `weight_bound`, or to weights of at most that.
      critic_steps: per generator step (None: 5 with privacy, 1 without).
      pac: rows that the critic judges together (None: 10 without privacy). A pack mixes units, so with
        privacy it is 1, and any other number is an error.
      log_frequency: draw the conditions of training by log(1 + rows); without privacy only.
      batch_size: of the generator's steps and, without privacy, of the critic's.
      sampling_batch_size: rows made at once.
      adversarial_weight: of the critic's scores, and of the conditions, in the generator's loss. With
        privacy, 0 trains no critic, and the whole budget buys histograms.
      anchor_weight: of bought joint histograms beside them; 0 buys none. With privacy only, as all that
        follow.
      anchor_steps, anchor_batch_size, anchor_learning_rate: of the generator's fit to these histograms before
        private training; free.
      fit_pool: generated rows on which weights of released rows are fitted to these histograms; 0 releases
        rows as they come.
      adaptive_rounds: that choose pairs by what is known worst, by the exponential mechanism (None: trees of
        boxes where pairs leave the target open, else pairs refined by what was bought anyway; 0: neither).
    """

    fits: ClassVar[type[Encoder]] = OfRows
    size: Literal["small", "medium", "large"] | None = None
    embedding_dim: int | None = None
    generator_dims: tuple[int, ...] | None = None
    critic_dims: tuple[int, ...] | None = None
    representation: Literal["bins", "modes"] | None = None
    generator_learning_rate: float = 2e-4
    critic_learning_rate: float = 2e-4
    weight_decay: float = 1e-6
    betas: tuple[float, float] = (0.5, 0.9)
    dropout: float | None = None
    tau: float = 0.2
    lipschitz: Literal["penalty", "spectral", "clip"] = "penalty"
    gradient_penalty: float = 10.0
    weight_bound: float = 1.0
    critic_steps: int | None = None
    pac: int | None = None
    log_frequency: bool | None = None
    batch_size: int = 500
    sampling_batch_size: int = 5_000
    adversarial_weight: float = 1.0
    anchor_weight: float = 1.0
    anchor_steps: int = 500
    anchor_batch_size: int = 1_000
    anchor_learning_rate: float = 3e-3
    fit_pool: int = 60_000
    adaptive_rounds: int | None = None

    def __post_init__(self) -> None:
        dims = (self.embedding_dim or 1, *(self.generator_dims or ()), *(self.critic_dims or ()))
        rates = (self.generator_learning_rate, self.critic_learning_rate, self.tau, self.anchor_learning_rate)
        weights = (self.adversarial_weight, self.anchor_weight, self.anchor_steps)
        counts = (self.critic_steps or 1, self.batch_size, self.sampling_batch_size)
        pac = self.pac if self.pac is not None else 1
        check_settings(
            (self.size in (None, *SIZES), f"Expected size={self.size!r} to be one of {', '.join(SIZES)}."),
            (all(dim > 0 for dim in dims), "Expected every width above 0."),
            (all(rate > 0 for rate in rates), "Expected learning rates and tau above 0."),
            (all(count > 0 for count in counts), "Expected critic_steps and batch sizes above 0."),
            (self.weight_decay >= 0, f"Expected weight_decay={self.weight_decay} of at least 0."),
            (all(weight >= 0 for weight in weights), "Expected weights and anchor_steps of at least 0."),
            (max(weights[:2]) > 0, "Expected adversarial_weight or anchor_weight above 0."),
            (self.anchor_batch_size > 1, "Expected anchor_batch_size above 1."),
            (self.gradient_penalty >= 0, "Expected gradient_penalty of at least 0."),
            (self.weight_bound > 0, f"Expected weight_bound={self.weight_bound} above 0."),
            (all(0 <= beta < 1 for beta in self.betas), f"Expected betas={self.betas} in [0, 1)."),
            (0 <= (self.dropout or 0) < 1, f"Expected dropout={self.dropout} in [0, 1)."),
            (pac > 0 and self.batch_size % pac == 0, f"Expected pac={pac} to divide batch_size."),
        )

    def resolved(self, private: bool) -> Config:
        """The same settings with every None but the widths filled in.

        Raises:
          ValueError: settings that would mix units, or skew conditions, under privacy.
        """
        if private:
            check_settings(
                (self.pac in (None, 1), f"Expected pac=1 with differential privacy, not {self.pac}."),
                (not self.log_frequency, "Expected log_frequency=false with differential privacy."),
            )
        defaults = {
            "size": "medium" if private else "large",
            "representation": "bins" if private else "modes",
            "dropout": 0.25 if private else 0.5,
            "critic_steps": 5 if private else 1,
            "pac": 1 if private or self.batch_size % 10 else 10,
            "log_frequency": not private,
        }
        missing = {key: value for key, value in defaults.items() if getattr(self, key) is None}
        return replace(self, **missing)

    def anchored(self, private: bool) -> bool:
        """Whether joint histograms are bought."""
        return private and self.anchor_weight > 0 and self.resolved(private).representation == "bins"

    def widths(self, private: bool) -> Widths:
        """The widths that `size` and the overrides come to."""
        preset = SIZES[self.resolved(private).size]
        return Widths(
            self.embedding_dim or preset.embedding,
            preset.generator if self.generator_dims is None else self.generator_dims,
            preset.critic if self.critic_dims is None else self.critic_dims,
        )
