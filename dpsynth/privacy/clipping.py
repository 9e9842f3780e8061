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

from dpsynth.errors import GuaranteeVoid, InvalidInput, Problem

# A Gram-matrix norm whose terms cancel by more than this factor is recomputed from the per-unit gradient
# itself.
_CANCELLATION = 1e-2
# Float32 rounding of one unit's norm and of its clipped contribution, taken against ourselves.
_ROUNDING = 1e-6
_EXACT_ELEMENTS = 1 << 22  # of float64 per-unit gradients that are held at a time


def _is_known(module: nn.Module, trainable: list[nn.Parameter]) -> bool:
    if type(module) is nn.Linear:
        return True
    return bool(getattr(module, "per_unit_parameter", False)) and len(trainable) == 1


def trainable_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Lists the layers whose per-unit gradients can be book-kept, or names every one that cannot.

    Raises:
      InvalidInput: lists trainable modules of unknown type, batch normalisation of any kind (it mixes units
        even
        without parameters), and parameters shared by several modules.
    """
    layers, problems, owners = [], [], {}
    for name, child in module.named_modules(remove_duplicate=True):
        label = f"{name or 'private'} ({type(child).__name__})"
        trainable = [p for p in child.parameters(recurse=False) if p.requires_grad]
        if isinstance(child, nn.modules.batchnorm._NormBase):
            problems.append(
                Problem(
                    label,
                    "mixes units or keeps statistics of them.",
                    "Use LayerNorm(elementwise_affine=False).",
                )
            )
        elif getattr(child, "inplace", False):
            problems.append(
                Problem(label, "works in place, which hides layer outputs.", "Set inplace=False.")
            )
        elif trainable and not _is_known(child, trainable):
            problems.append(
                Problem(
                    label,
                    "has trainable parameters whose gradient per unit is unknown.",
                    "Build private networks of nn.Linear and PerUnitParameter, or freeze it.",
                )
            )
        elif trainable:
            layers.append((name, child))
        for parameter in trainable:
            if owners.setdefault(parameter, label) != label:
                problems.append(
                    Problem(label, f"shares a parameter with {owners[parameter]}.", "Untie them.")
                )
    if not layers and not problems:
        problems.append(Problem("private", "has no trainable parameter.", "Check requires_grad."))
    if problems:
        raise InvalidInput("the private network", problems)
    return layers


class FlatParameters:
    """The trainable parameters of a module as slices of flat buffers, so that noise is one draw."""

    def __init__(self, module: nn.Module):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._sizes = [p.numel() for p in self.parameters]
        self.size = sum(self._sizes)

    def zeros(self) -> Tensor:
        """Allocates a buffer for one value per parameter."""
        return self.parameters[0].new_zeros(self.size)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Cuts `flat` into views shaped like the parameters, in order."""
        return [piece.view_as(p) for piece, p in zip(flat.split(self._sizes), self.parameters)]


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


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """What clipping did to one batch. Internal: never released.

    Args:
      losses: one per unit.
      norms: of each unit's gradient before clipping; for the rare unit that needed float64, after clipping.
      factors: what each was multiplied by, at most 1; 0 where the gradient was not finite.
    """

    losses: Tensor
    norms: Tensor
    factors: Tensor

    @property
    def max_clipped_norm(self) -> float:
        """The largest norm of a unit's contribution."""
        return float((self.norms * self.factors).max()) if len(self.norms) else 0.0


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
        self._slot = {id(p): i for i, p in enumerate(self.flat.parameters)}
        self._layers: list[_Layer] = []
        self._handles = []
        self._recording = False
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
        self, losses: Callable[[], Tensor], num: int, max_grad_norm: float, out: Tensor, *, scale: float = 1.0
    ) -> Clipped:
        """Adds `scale` times the clipped sum of per-unit gradients to the flat buffer `out`.

        Args:
          losses: runs the forward pass and returns one loss per unit, `[unit]`.
          num: how many units that is; private, stays internal.
          max_grad_norm: public: the bound C.
          out: flat buffer, laid out as `self.flat`.
          scale: public factor, for terms that are means over generated samples.
        """
        with torch.enable_grad(), self._record():
            value = losses()
        if value.shape != (num,):
            raise GuaranteeVoid(
                "The objective must return one loss per unit, a vector. Do not reduce over axis 0."
            )
        pieces = self._backward(value, num)
        norms, norm_factors = self._norms(pieces, num, max_grad_norm, value)
        factors = norm_factors if scale == 1.0 else norm_factors * scale
        self._accumulate(pieces, factors, out)
        return Clipped(losses=value.detach(), norms=norms, factors=norm_factors)

    def _backward(self, value: Tensor, num: int) -> list[tuple[_Layer, Tensor | None, Tensor]]:
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

    def _norms(self, pieces, num: int, max_grad_norm: float, like: Tensor) -> tuple[Tensor, Tensor]:
        squared = like.new_zeros(num)
        plain = [(layer, a, g) for layer, a, g in pieces if g.ndim == 2]
        if plain:
            # One row per layer: ‖G_iᵀA_i‖² = ‖A_i‖²‖G_i‖², plus ‖G_i‖² for the bias.
            inputs, outputs = like.new_zeros(2, len(plain), num)
            bias = like.new_tensor([layer.bias is not None for layer, _, _ in plain])
            for row, (layer, a, g) in enumerate(plain):
                torch.linalg.vector_norm(g, dim=1, out=outputs[row])
                if layer.weight is not None:
                    torch.linalg.vector_norm(a, dim=1, out=inputs[row])
            # Multiplied before squaring: a tiny G_i times a huge A_i must not underflow to zero.
            squared = outputs.mul_(inputs.square_().add_(bias[:, None]).sqrt_()).square_().sum(0)
        doubtful = torch.zeros_like(squared, dtype=torch.bool)
        for layer, a, g in pieces:
            if g.ndim == 3:
                part, cancelled = _squared_norms_of_rows(layer, a, g)
                squared = squared + part
                doubtful |= cancelled
        doubtful |= ~torch.isfinite(squared)
        norms = squared.sqrt_()
        if not bool(doubtful.any()):
            return norms, clip_factors(norms, max_grad_norm)
        return _clip_exactly(pieces, norms, doubtful, max_grad_norm)

    def _accumulate(self, pieces, factors: Tensor, out: Tensor) -> None:
        views = self.flat.views(out)
        for layer, a, g in pieces:
            weights = factors if g.ndim == 2 else factors.repeat_interleave(g.shape[1])
            g = g.reshape(-1, g.shape[-1])
            if layer.bias is not None:
                view = views[self._slot[id(layer.bias)]]
                view.view(-1).addmv_(g.t(), weights)
            if layer.weight is not None:
                a = a.reshape(-1, a.shape[-1])
                view = views[self._slot[id(layer.weight)]]
                if g.shape[1] <= a.shape[1]:
                    view.addmm_((g * weights[:, None]).t(), a)
                else:
                    view.addmm_(g.t(), a * weights[:, None])


def _by_unit(tensor: Tensor, num: int, name: str) -> Tensor:
    """Views a layer's input or output gradient as [unit, feature] or [unit, row, feature]."""
    if tensor.ndim < 2 or tensor.shape[0] != num:
        raise GuaranteeVoid(f"Axis 0 of the input of layer {name} must be the unit. Keep units apart.")
    return tensor if tensor.ndim == 2 else tensor.reshape(num, -1, tensor.shape[-1])


def _with_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(1)


def _squared_norms_of_rows(layer: _Layer, a: Tensor | None, g: Tensor) -> tuple[Tensor, Tensor]:
    """Squared norms of Σ_r g_r a_rᵀ (and of Σ_r g_r), and which of them lost precision to cancellation."""
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
            step = max(1, _EXACT_ELEMENTS // (width * height))
            for part in range(0, len(g), step):
                stop = part + step
                product = torch.bmm(g[part:stop].transpose(1, 2), a[part:stop])
                squared[part:stop] += product.square_().sum((1, 2))
        scale += (lengths * torch.linalg.vector_norm(a, dim=2)).sum(1).square()
    return squared, squared < _CANCELLATION * scale


def _clip_exactly(pieces, norms: Tensor, doubtful: Tensor, max_grad_norm: float) -> tuple[Tensor, Tensor]:
    """Recomputes doubtful units in float64 and replaces their rows in `pieces` by clipped or zero ones."""
    rows = doubtful.nonzero().squeeze(1)
    squared = torch.zeros(len(rows), dtype=torch.float64, device=norms.device)
    for layer, a, g in pieces:
        g64 = _with_rows(g[rows]).double()
        if layer.bias is not None:
            squared += g64.sum(1).square().sum(1)
        if layer.weight is not None:
            a64 = _with_rows(a[rows]).double()
            step = max(1, _EXACT_ELEMENTS // (a64.shape[2] * g64.shape[2]))
            for part in range(0, len(rows), step):
                stop = part + step
                product = torch.bmm(g64[part:stop].transpose(1, 2), a64[part:stop])
                squared[part:stop] += product.square_().sum((1, 2))
    finite = torch.isfinite(squared)
    exact = torch.where(finite, squared, 0.0).sqrt()
    factors = (max_grad_norm / (exact * (1.0 + _ROUNDING) + 1e-6)).clamp(max=1.0)
    for index, (layer, a, g) in enumerate(pieces):
        # The factor goes into the output gradient in float64: a float32 factor would underflow.
        shape = (-1,) + (1,) * (g.ndim - 1)
        g = g.clone()
        g[rows] = torch.where(finite.view(shape), g[rows].double() * factors.view(shape), 0.0).to(g.dtype)
        if a is not None:
            a = a.clone()
            a[rows] = torch.where(finite.view(shape), a[rows], 0.0)
        pieces[index] = (layer, a, g)
    norms, all_factors = norms.clone(), clip_factors(norms, max_grad_norm)
    # `Clipped` reports norm and factor; the rows are scaled already, so the sum weighs them by one.
    norms[rows] = (exact * factors).to(norms.dtype)
    all_factors[rows] = finite.to(norms.dtype)
    return norms, all_factors
