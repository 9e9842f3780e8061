"""Building blocks of the neural generators: packed rows in, soft rows out, nothing per column in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from dpsynth.data.encoding import Layout, Segment


class PerUnitParameter(nn.Module):
    """A parameter that enters a loss once per unit, so that its per-unit gradients can be clipped.

    The training core recognises the class by `per_unit_parameter`.
    """

    per_unit_parameter = True

    def __init__(self, value: Tensor):
        super().__init__()
        self.parameter = nn.Parameter(value)

    def forward(self, batch: int) -> Tensor:
        return self.parameter.expand(batch, -1)


class Segments(nn.Module):
    """Arithmetic on a layout's segments, vectorised over all of them; holds no trainable parameter.

    Rows have any leading axes; the last one is `packed` (one number per segment), `width` (expanded) or
    `onehot` (one number per one-hot segment). Padding rows are NaN in every packed number.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout, self.width, self.packed_width = layout, layout.width, layout.packed_width
        onehots = [(i, s) for i, s in enumerate(layout.segments) if s.kind == "onehot"]
        scalars = [(i, s) for i, s in enumerate(layout.segments) if s.kind == "scalar"]
        self._buffer("packed_onehots", [i for i, _ in onehots])
        self._buffer("packed_scalars", [i for i, _ in scalars])
        self._buffer("starts", [s.start for _, s in onehots])
        self._buffer("sizes", [s.size for _, s in onehots])
        self._buffer("scalars", [s.start for _, s in scalars])
        owners = [-1 if s.kind == "scalar" else place for s, place in _numbered(layout.segments)]
        sizes = torch.tensor([s.size for s in layout.segments])
        self._buffer("owner", torch.tensor(owners).repeat_interleave(sizes) % (len(onehots) + 1))
        self._buffer("code", torch.cat([torch.arange(s.size) for s in layout.segments]))
        member = nn.functional.one_hot(self.owner, len(onehots) + 1)[:, :-1].float()
        self.register_buffer("member", member, persistent=False)
        self.register_buffer("scalar_ones", 1.0 - member.sum(dim=1), persistent=False)
        self.has_scalars = bool(scalars)

    def _buffer(self, name: str, values: Iterable[int]) -> None:
        self.register_buffer(name, torch.as_tensor(values, dtype=torch.long), persistent=False)

    def _reduce(self, values: Tensor, how: str) -> Tensor:
        """Maximum or minimum of each one-hot, [... onehot]; scalars share a slot that is cut off."""
        result = values.new_zeros(*values.shape[:-1], self.member.shape[1] + 1)
        owner = self.owner.expand(values.shape)
        return result.scatter_reduce_(-1, owner, values, how, include_self=False)[..., :-1]

    def expand(self, packed: Tensor) -> Tensor:
        """Writes packed rows as one-hots and scalars, [... width]; padding rows become zero codes."""
        packed = packed.nan_to_num()
        wide = packed.new_zeros(*packed.shape[:-1], self.width)
        wide.scatter_(-1, self.targets(packed), 1.0)
        if self.has_scalars:
            wide[..., self.scalars] = packed[..., self.packed_scalars]
        return wide

    def targets(self, packed: Tensor) -> Tensor:
        """Expanded places of a row's cells, [... onehot]."""
        return packed[..., self.packed_onehots].long() + self.starts

    def _exponentials(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exponentials below each one-hot's maximum, their sums and the maxima; `member` spreads them."""
        top = self._reduce(logits.detach(), "amax")
        exponentials = (
            (logits - top @ self.member.T).clamp(max=0.0).exp()
        )  # the clamp is for the scalars alone
        return exponentials, exponentials @ self.member, top

    def cross_entropy(self, logits: Tensor, packed: Tensor) -> Tensor:
        """Negative log-likelihood of each one-hot, [... onehot]."""
        _, sums, top = self._exponentials(logits)
        return sums.log() + top - logits.gather(-1, self.targets(packed.nan_to_num()))

    def soft(self, logits: Tensor, tau: float = 1.0, draw: torch.Generator | None = None) -> Tensor:
        """Soft rows: a softmax in each one-hot (with Gumbel noise if `draw`), tanh of the scalars."""
        noisy = logits if draw is None else logits - exponential(logits.shape, draw).log()
        exponentials, sums, _ = self._exponentials(noisy / tau)
        rows = exponentials / (sums @ self.member.T + self.scalar_ones)
        if self.has_scalars:
            rows = rows.index_copy(-1, self.scalars, logits[..., self.scalars].tanh())
        return rows

    def draw_rows(self, logits: Tensor, draw: torch.Generator | None, stddev: Tensor | None = None) -> Tensor:
        """Draws packed rows: a cell of each one-hot from its softmax, and the scalars.

        Args:
          draw: None takes the largest cells.
          stddev: noise of the scalars in their order, or None.
        """
        noisy = logits if draw is None else logits - exponential(logits.shape, draw).log()
        largest = noisy >= self._reduce(noisy, "amax") @ self.member.T
        packed = logits.new_empty(*logits.shape[:-1], self.packed_width)
        codes = torch.where(largest, self.code, self.width)
        packed[..., self.packed_onehots] = self._reduce(codes, "amin").to(packed.dtype)
        if self.has_scalars:
            values = logits[..., self.scalars].tanh()
            if stddev is not None:
                values = values + stddev * normal(values.shape, draw)
            packed[..., self.packed_scalars] = values.clamp(-1.0, 1.0)
        return packed

    def example_rows(self, shape: Sequence[int], draw: torch.Generator) -> Tensor:
        """Makes up valid packed rows from the layout alone."""
        rows = 2 * uniform((*shape, self.packed_width), draw) - 1
        cells = uniform((*shape, len(self.sizes)), draw) * self.sizes
        rows[..., self.packed_onehots] = cells.floor().clamp(max=self.sizes - 1)
        return rows


def real_rows(units: Tensor) -> Tensor:
    """Weights that average over the rows a unit has, [unit] or [unit row]; 0 for padding."""
    present = (~units[..., 0].isnan()).float()
    if present.dim() == 1:
        return present
    return present / present.sum(dim=-1, keepdim=True).clamp(min=1.0)


def per_unit(losses: Tensor, units: Tensor) -> Tensor:
    """Mean loss over each unit's rows, [unit]; a unit without rows has loss 0."""
    weighted = torch.where(units[..., 0].isnan(), 0.0, losses) * real_rows(units)
    return weighted if weighted.dim() == 1 else weighted.sum(dim=-1)


def flat_rows(units: Tensor) -> Tensor:
    """All rows of all units, [row, packed]; for objectives that do not tell units apart."""
    rows = units.reshape(-1, units.shape[-1])
    return rows[~rows[:, 0].isnan()]


def mlp(width: int, dims: Sequence[int], activation: nn.Module, dropout: float = 0.0) -> list[nn.Module]:
    """Linear layers, each followed by the activation and, if any, dropout."""
    layers: list[nn.Module] = []
    for out in dims:
        layers += [nn.Linear(width, out), activation, *([nn.Dropout(dropout)] if dropout > 0 else [])]
        width = out
    return layers


def normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=draw, device=draw.device)


def uniform(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=draw, device=draw.device)


def exponential(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Standard exponentials; minus their logarithm is Gumbel. Bounded away from 0."""
    return torch.empty(shape, device=draw.device).exponential_(generator=draw).clamp_(min=1e-20)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters: with the noise, what decides a private model's signal."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _numbered(segments: Sequence[Segment]) -> Iterator[tuple[Segment, int]]:
    """Each segment with the number of one-hots before it."""
    count = 0
    for segment in segments:
        yield segment, count
        count += segment.kind == "onehot"
