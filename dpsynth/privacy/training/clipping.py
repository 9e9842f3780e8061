"""Per-unit clipping of MLP gradients by book-keeping: the exact clipped sum at the price of a plain backward.

For a Linear layer with input A and output gradient G (rows are units), unit i's weight gradient is G_iᵀ A_i.
Its norm needs only A_i and G_i, and the clipped sum over units is one product (c ⊙ G)ᵀ A. So one forward and
one backward pass to the layers' outputs suffice; no per-unit gradient is ever stored.

Source: Bu, Wang, Zha & Karypis (2023), "Differentially Private Optimization on Large Model at Small Cost",
section 3 (book-keeping, without the second backward pass); Goodfellow (2015), arXiv:1510.01799 (norms).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.training.layers import FlatParameters, trainable_layers

# A Gram-matrix norm whose terms cancel by more than this factor is recomputed from the per-unit gradient
# itself.
_CANCELLATION = 1e-2
# Float32 rounding of one unit's norm and of its clipped contribution, taken against ourselves.
_ROUNDING = 1e-6
_EXACT_ELEMENTS = 1 << 22  # of float64 per-unit gradients that are held at a time


@dataclass
class _Call:
    """One forward call of one layer while recording: its input, and where its output enters the graph."""

    activations: Tensor | None
    version: int
    edge: GradientEdge


@dataclass
class _Layer:
    """One Linear or per-unit parameter, with the calls of the current forward pass."""

    name: str
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    calls: list[_Call] = field(default_factory=list)


# A layer, its inputs (None without a weight) and output gradients, [unit feature] or [unit row feature].
_Piece = tuple[_Layer, Tensor | None, Tensor]


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """What clipping did to one batch. Internal: never released.

    Args:
      losses: one per unit.
      norms: of each unit's gradient before clipping; 0 where it was not finite.
      factors: what each was multiplied by, at most 1; 0 where the gradient was not finite.
    """

    losses: Tensor
    norms: Tensor
    factors: Tensor

    def summary(self) -> tuple[float, float, float]:
        """The sum of losses, the number of clipped units, and the largest norm of a unit's contribution."""
        clipped = (self.factors < 1.0).sum(dtype=self.losses.dtype)
        return tuple(torch.stack([self.losses.sum(), clipped, (self.norms * self.factors).max()]).tolist())


def clip_factors(norms: Tensor, max_grad_norm: float) -> Tensor:
    """Returns min(1, C / norm), rounded down so that float32 rounding cannot lift a contribution above C."""
    return (max_grad_norm / (norms * (1.0 + _ROUNDING) + 1e-6)).clamp(max=1.0)


class BookKeeper:
    """Records one forward pass of `module` and returns clipped sums of per-unit gradients.

    Formal guarantee: if `losses()[i]` depends on unit i alone, adding or removing a unit changes the sum by a
    vector of L2 norm at most `max_grad_norm` (up to float32 rounding of the sum; see privacy/README.md).
    Edge cases: a unit with a non-finite gradient contributes zero; one whose squared norm overflows float32
    is clipped in float64. Layers that the loss does not reach contribute zero. Axis 0 of every input is the
    unit; middle axes (rows, steps) and repeated calls are summed within the unit.

    Args:
      module: public architecture; see `trainable_layers` for what it may hold.
    """

    def __init__(self, module: nn.Module):
        self.flat = FlatParameters(module)
        self.names = [name for name, p in module.named_parameters() if p.requires_grad]
        self._slot = {id(p): i for i, p in enumerate(self.flat.parameters)}
        self._layers: list[_Layer] = []
        self._handles = []
        self._recording = False
        self._buffers: list[tuple[Tensor, list[Tensor]]] = []  # the last two and their views
        for name, layer in trainable_layers(module):
            if type(layer) is nn.Linear:
                weight, bias = layer.weight, layer.bias
                kept = _Layer(
                    name,
                    weight if weight.requires_grad else None,
                    bias if bias is not None and bias.requires_grad else None,
                )
            else:
                kept = _Layer(name, None, next(p for p in layer.parameters(recurse=False) if p.requires_grad))
            self._layers.append(kept)
            self._handles.append(layer.register_forward_hook(self._make_hook(kept)))

    def close(self) -> None:
        """Removes the hooks from the module."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _make_hook(self, kept: _Layer):
        def hook(_module, inputs, output):
            if self._recording and output.requires_grad:
                # The edge, not the tensor: the output itself may be freed or overwritten in place.
                activations = inputs[0].detach() if kept.weight is not None else None
                version = inputs[0]._version if kept.weight is not None else 0
                kept.calls.append(_Call(activations, version, get_gradient_edge(output)))

        return hook

    @contextmanager
    def _record(self) -> Iterator[None]:
        for layer in self._layers:
            layer.calls.clear()
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def clipped_sum(
        self,
        losses: Callable[[], Tensor | None],
        num: int,
        max_grad_norm: float,
        out: Tensor,
        *,
        scale: float = 1.0,
    ) -> Clipped | None:
        """Adds `scale` times the clipped sum of per-unit gradients to the flat buffer `out`.

        Args:
          losses: runs the forward pass and returns one loss per unit, `[unit]`; with None, nothing is added.
          num: how many units that is; private, stays internal.
          max_grad_norm: public: the bound C.
          out: flat buffer, laid out as `self.flat`.
          scale: public factor, for terms that are means over generated samples.
        """
        with torch.enable_grad(), self._record():
            value = losses()
        if value is None:
            return None
        if value.shape != (num,):
            raise GuaranteeVoid(
                "The objective must return one loss per unit, a vector. Do not reduce over axis 0."
            )
        pieces = self._backward(value, num)
        norms, doubtful = _norms(pieces, value)
        factors = clip_factors(norms, max_grad_norm)
        if doubtful is not None:
            rows = doubtful.nonzero().squeeze(1)
            exact, exact_factors = _exact_factors(pieces, rows, max_grad_norm)
            self._add_exactly(pieces, rows, exact_factors * scale, out)
            pieces = [_without(piece, rows) for piece in pieces]
            norms[rows], factors[rows] = exact.to(norms.dtype), exact_factors.to(norms.dtype)
        self._add(pieces, factors if scale == 1.0 else factors * scale, out)
        return Clipped(losses=value.detach(), norms=norms, factors=factors)

    def _backward(self, value: Tensor, num: int) -> list[_Piece]:
        """Backpropagates to the layers' outputs; returns each layer with its inputs and output gradients."""
        edges = [call.edge for layer in self._layers for call in layer.calls]
        if not edges or not value.requires_grad:
            return []
        gradients = iter(torch.autograd.grad(value.sum(), edges, allow_unused=True))
        pieces = []
        for layer in self._layers:
            pairs = []
            for call, gradient in zip(layer.calls, gradients):
                if gradient is not None:
                    pairs.append((self._activations(layer, call, num), _by_unit(gradient, num, layer.name)))
            layer.calls.clear()
            if len(pairs) == 1:
                pieces.append((layer, *pairs[0]))
            elif pairs:
                rows = [None if a is None else _with_rows(a) for a, _ in pairs]
                activations = None if layer.weight is None else torch.cat(rows, dim=1)
                pieces.append((layer, activations, torch.cat([_with_rows(g) for _, g in pairs], dim=1)))
        return pieces

    def _activations(self, layer: _Layer, call: _Call, num: int) -> Tensor | None:
        if call.activations is None:
            return None
        if call.activations._version != call.version:
            raise GuaranteeVoid(
                f"The input of layer {layer.name} was overwritten in place. Use an out-of-place form."
            )
        return _by_unit(call.activations, num, layer.name)

    def _add(self, pieces: list[_Piece], factors: Tensor, out: Tensor) -> None:
        """Adds (c ⊙ G)ᵀA per layer; the smaller of the two is the one that is scaled."""
        views = self._views(out)
        for layer, a, g in pieces:
            weights = factors if g.ndim == 2 else factors.repeat_interleave(g.shape[1])
            g = g.reshape(-1, g.shape[-1])
            if layer.bias is not None:
                views[self._slot[id(layer.bias)]].view(-1).addmv_(g.t(), weights)
            if layer.weight is not None:
                a = a.reshape(-1, a.shape[-1])
                view = views[self._slot[id(layer.weight)]]
                if g.shape[1] <= a.shape[1]:
                    view.addmm_((g * weights[:, None]).t(), a)
                else:
                    view.addmm_(g.t(), a * weights[:, None])

    def _views(self, out: Tensor) -> list[Tensor]:
        """The views of a buffer, which steps use again and again."""
        for known, views in self._buffers:
            if known is out:
                return views
        self._buffers = [*self._buffers[-1:], (out, self.flat.views(out))]
        return self._buffers[-1][1]

    def _add_exactly(self, pieces: list[_Piece], rows: Tensor, factors: Tensor, out: Tensor) -> None:
        """Adds the contributions of the units in `rows`, computed in float64."""
        finite = (factors > 0.0).nonzero().squeeze(1)
        rows, factors = rows[finite], factors[finite]
        for layer, a, g in pieces:
            g64 = _with_rows(g[rows]).double() * factors[:, None, None]
            g64 = g64.reshape(-1, g.shape[-1])
            views = self._views(out)
            if layer.bias is not None:
                views[self._slot[id(layer.bias)]].view(-1).add_(g64.sum(0))
            if layer.weight is not None:
                a64 = a[rows].reshape(-1, a.shape[-1]).double()
                views[self._slot[id(layer.weight)]].add_(g64.t() @ a64)


def _without(piece: _Piece, rows: Tensor) -> _Piece:
    """Sets the units in `rows` to zero: their contributions were added already, or are not finite."""
    layer, a, g = piece
    return layer, None if a is None else a.index_fill(0, rows, 0.0), g.index_fill(0, rows, 0.0)


def _norms(pieces: list[_Piece], like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Per-unit gradient norms, and which of them float32 did not get right (None: it got all right)."""
    plain = [(layer, a, g) for layer, a, g in pieces if g.ndim == 2]
    # One row per layer: ‖G_iᵀA_i‖² = ‖A_i‖²‖G_i‖², plus ‖G_i‖² for the bias.
    outputs, inputs = like.new_zeros(2, max(1, len(plain)), len(like)).unbind()
    for row, (_, a, g) in enumerate(plain):
        torch.linalg.vector_norm(g, dim=1, out=outputs[row])
        if a is not None:
            torch.linalg.vector_norm(a, dim=1, out=inputs[row])
    inputs.mul_(inputs)
    if all(layer.bias is not None for layer, _, _ in plain):
        inputs.add_(1.0)
    else:
        inputs.add_(like.new_tensor([[layer.bias is not None] for layer, _, _ in plain]))
    # Multiplied before squaring: a tiny G_i times a huge A_i must not underflow to zero.
    outputs.mul_(inputs.sqrt_())
    norms, kept = outputs.mul_(outputs).sum(0).sqrt_(), None
    for layer, a, g in pieces:
        if g.ndim == 3:
            part, precise = _squared_norms_of_rows(layer, a, g)
            norms = (norms * norms).add_(part).sqrt_()
            kept = precise if kept is None else kept & precise
    largest = torch.finfo(norms.dtype).max
    if kept is None and len(norms) and float(norms.amax()) <= largest:
        return norms, None
    fine = norms <= largest  # neither infinite nor NaN
    fine = fine if kept is None else fine & kept
    return norms, None if bool(fine.all()) else ~fine


def _by_unit(tensor: Tensor, num: int, name: str) -> Tensor:
    """Views a layer's input or output gradient as [unit, feature] or [unit, row, feature]."""
    if tensor.ndim < 2 or tensor.shape[0] != num:
        raise GuaranteeVoid(f"Axis 0 of the input of layer {name} must be the unit. Keep units apart.")
    return tensor if tensor.ndim == 2 else tensor.reshape(num, -1, tensor.shape[-1])


def _with_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(1)


def _squared_norms_of_rows(layer: _Layer, a: Tensor | None, g: Tensor) -> tuple[Tensor, Tensor]:
    """Squared norms of Σ_r g_r a_rᵀ (and of Σ_r g_r), and which of them kept their precision."""
    squared = g.new_zeros(len(g))
    scale = g.new_zeros(len(g))
    lengths = torch.linalg.vector_norm(g, dim=2)
    if layer.bias is not None:
        squared += g.sum(1).square().sum(1)
        scale += lengths.sum(1).square()
    if layer.weight is not None:
        rows, width, height = g.shape[1], a.shape[2], g.shape[2]
        if rows * (width + height) <= width * height:
            gram = torch.bmm(a, a.transpose(1, 2)).mul_(torch.bmm(g, g.transpose(1, 2)))
            squared += gram.sum((1, 2)).clamp_(min=0)
        else:
            squared += _squares_of_products(a, g)
        scale += (lengths * torch.linalg.vector_norm(a, dim=2)).sum(1).square()
    return squared, squared >= _CANCELLATION * scale


def _exact_factors(pieces: list[_Piece], rows: Tensor, max_grad_norm: float) -> tuple[Tensor, Tensor]:
    """Norms and clip factors of the units in `rows`, in float64; both 0 where a gradient is not finite."""
    squared = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for layer, a, g in pieces:
        g64 = _with_rows(g[rows]).double()
        if layer.bias is not None:
            squared += g64.sum(1).square().sum(1)
        if layer.weight is not None:
            squared += _squares_of_products(_with_rows(a[rows]).double(), g64)
    finite = torch.isfinite(squared)
    norms = torch.where(finite, squared, 0.0).sqrt()
    return norms, torch.where(finite, clip_factors(norms, max_grad_norm), 0.0)


def _squares_of_products(a: Tensor, g: Tensor) -> Tensor:
    """‖Σ_r g_r a_rᵀ‖² per unit from the products themselves, a block of units at a time."""
    size = a.shape[2] * g.shape[2]
    step = max(1, _EXACT_ELEMENTS // size)
    blocks = [
        torch.bmm(gs.transpose(1, 2), rows).square_().sum((1, 2))
        for rows, gs in zip(a.split(step), g.split(step))
    ]
    return torch.cat(blocks)
