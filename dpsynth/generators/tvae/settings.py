"""Settings of TVAE; light, so that a mistake in them answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from dpsynth.data.units.encoder import Encoder, OfRows
from dpsynth.generators.base import check_settings


class Widths(NamedTuple):
    """Layer widths of the network."""

    embedding: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]


SIZES = {
    "small": Widths(32, (64, 64), (64, 64)),
    "medium": Widths(128, (128, 128), (128, 128)),  # as published
    "large": Widths(256, (256, 256), (256, 256)),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of TVAE; the defaults are the published ones.

    Args:
      size: widths by name (None: `large` with privacy, `medium`, as published, without); the next three
        override it.
      representation: None is `bins` with differential privacy and `modes` without.
      loss_factor: weight of the reconstruction against the KL divergence.
      draw_categories: draw a cell from its probabilities; False takes the likeliest, as the `ctgan` package.
      batch_size: of the training without privacy; with privacy, `training` decides.
      sampling_batch_size: rows made at once.
      anchor_weight: of bought joint histograms beside the private loss; 0 buys none. With privacy only, as
        all that follow.
      anchor_steps, anchor_batch_size, anchor_learning_rate: of the decoder's fit to these histograms before
        private training; free.
      fit_pool: generated rows on which weights of released rows are fitted to these histograms; 0 releases
        rows as they come.
      adaptive_rounds: that choose pairs by what is known worst, by the exponential mechanism (None: trees of
        boxes where pairs leave the target open, else pairs refined by what was bought anyway; 0: neither).
      anchor_every: private steps per anchoring step while training.
      warm_steps: of the encoder, on rows of the anchored decoder, before private training; free.
      dp_sgd: train on units; without, the whole budget buys histograms and the decoder follows them alone.
    """

    fits: ClassVar[type[Encoder]] = OfRows
    size: Literal["small", "medium", "large"] | None = None
    embedding_dim: int | None = None
    encoder_dims: tuple[int, ...] | None = None
    decoder_dims: tuple[int, ...] | None = None
    representation: Literal["bins", "modes"] | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    loss_factor: float = 2.0
    draw_categories: bool = True
    batch_size: int = 500
    sampling_batch_size: int = 5_000
    anchor_weight: float = 1.0
    anchor_steps: int = 500
    anchor_batch_size: int = 1_000
    anchor_learning_rate: float = 3e-3
    fit_pool: int = 60_000
    adaptive_rounds: int | None = None
    anchor_every: int = 5
    warm_steps: int = 200
    dp_sgd: bool = True

    def __post_init__(self) -> None:
        dims = (self.embedding_dim or 1, *(self.encoder_dims or ()), *(self.decoder_dims or ()))
        check_settings(
            (self.size in (None, *SIZES), f"Expected size={self.size!r} to be one of {', '.join(SIZES)}."),
            (all(dim > 0 for dim in dims), "Expected every width above 0."),
            (self.learning_rate > 0, f"Expected learning_rate={self.learning_rate} above 0."),
            (self.weight_decay >= 0, f"Expected weight_decay={self.weight_decay} of at least 0."),
            (self.loss_factor > 0, f"Expected loss_factor={self.loss_factor} above 0."),
            (self.batch_size > 0, f"Expected batch_size={self.batch_size} above 0."),
            (self.sampling_batch_size > 0, "Expected sampling_batch_size above 0."),
            (self.anchor_weight >= 0, f"Expected anchor_weight={self.anchor_weight} of at least 0."),
            (
                min(self.anchor_steps, self.warm_steps) >= 0,
                "Expected anchor_steps, warm_steps of at least 0.",
            ),
            (self.anchor_batch_size > 1, "Expected anchor_batch_size above 1."),
            (self.anchor_learning_rate > 0, "Expected anchor_learning_rate above 0."),
            (self.anchor_every > 0, f"Expected anchor_every={self.anchor_every} above 0."),
            (self.dp_sgd or self.anchor_weight > 0, "Expected dp_sgd=true or anchor_weight above 0."),
        )

    def encoding(self, private: bool) -> Literal["bins", "modes"]:
        """The representation that this configuration wants."""
        return self.representation or ("bins" if private else "modes")

    def anchored(self, private: bool) -> bool:
        """Whether joint histograms are bought."""
        return private and self.anchor_weight > 0 and self.encoding(private) == "bins"

    def widths(self, private: bool) -> Widths:
        """The widths that `size` and the overrides come to."""
        preset = SIZES[self.size or ("large" if private else "medium")]
        return Widths(
            self.embedding_dim or preset.embedding,
            preset.encoder if self.encoder_dims is None else self.encoder_dims,
            preset.decoder if self.decoder_dims is None else self.decoder_dims,
        )
