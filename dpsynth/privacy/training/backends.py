"""Four ways to the same clipped sum: book-keeping, Opacus' ghost clipping, Opacus' hooks, and vmap.

`fast` is the one to train with. The others are slower by factors and serve as oracles: they must agree with
it, and a user who trusts only Opacus' own gradients may select them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.training.clipping import BookKeeper, Clipped, clip_factors
from dpsynth.privacy.training.layers import FlatParameters

BACKENDS = ("fast", "opacus_ghost", "opacus_hooks", "vmap")
Losses = Callable[[Tensor], Tensor]


class Backend(Protocol):
    """Adds clipped sums of per-unit gradients to a flat buffer."""

    flat: FlatParameters

    def clipped_sum(self, losses: Losses, units: Tensor, max_grad_norm: float, out: Tensor) -> Clipped:
        """Adds Σ_i clip(∇ losses(units)[i], max_grad_norm) to `out`. `units` holds at least one unit."""
        ...

    def paused(self):
        """A context in which passes through the module are not recorded (fakes, generator steps)."""
        ...

    def close(self) -> None:
        """Takes all hooks off the module."""
        ...


def make_backend(name: str, module: nn.Module, keeper: BookKeeper, max_grad_norm: float) -> Backend:
    """Builds the back end named in the configuration for `module`, whose book-keeper exists already."""
    if name == "fast":
        return Fast(keeper)
    if name == "opacus_ghost":
        return OpacusGhost(module, keeper.flat, max_grad_norm)
    if name == "opacus_hooks":
        return OpacusHooks(module, keeper.flat)
    if name == "vmap":
        return Vmap(module, keeper.flat)
    raise ValueError(f'Expected training.backend="{name}" to be one of {", ".join(BACKENDS)}.')


class Fast:
    """Book-keeping; see `dpsynth.privacy.training.clipping`."""

    def __init__(self, keeper: BookKeeper):
        self._keeper = keeper
        self.flat = keeper.flat

    def clipped_sum(self, losses: Losses, units: Tensor, max_grad_norm: float, out: Tensor) -> Clipped:
        return self._keeper.clipped_sum(lambda: losses(units), len(units), max_grad_norm, out)

    @contextmanager
    def paused(self):
        yield

    def close(self) -> None:
        pass


class _Opacus:
    """What Opacus' two hook-based modes share."""

    def __init__(self, hooks, flat: FlatParameters):
        self._hooks = hooks
        self.flat = flat

    @contextmanager
    def paused(self):
        self._hooks.disable_hooks()
        try:
            yield
        finally:
            self._hooks.enable_hooks()

    def close(self) -> None:
        self._hooks.cleanup()

    def _add(self, gradients: list[Tensor | None], out: Tensor) -> None:
        for view, gradient in zip(self.flat.views(out), gradients):
            if gradient is not None:
                view.add_(gradient)


class OpacusHooks(_Opacus):
    """Opacus' per-sample gradients by hooks, one array of the size of the network per unit."""

    def __init__(self, module: nn.Module, flat: FlatParameters):
        from opacus.grad_sample import GradSampleHooks

        super().__init__(
            _with_unit_parameters(GradSampleHooks)(module, loss_reduction="sum", strict=False), flat
        )

    def clipped_sum(self, losses: Losses, units: Tensor, max_grad_norm: float, out: Tensor) -> Clipped:
        for parameter in self.flat.parameters:
            parameter.grad_sample = None
        with torch.enable_grad():
            value = losses(units)
        with _quiet():
            value.sum().backward()
        samples = []
        for parameter in self.flat.parameters:
            sample, parameter.grad_sample, parameter.grad = parameter.grad_sample, None, None
            samples.append(value.new_zeros(len(units), *parameter.shape) if sample is None else sample)
        return _clip_samples(samples, value, max_grad_norm, out, self.flat)


class OpacusGhost(_Opacus):
    """Opacus' ghost clipping: norms in one backward pass, the weighted loss in a second one.

    Opacus refuses networks that call a layer twice in this mode. A batch with a non-finite gradient is an
    error here, because the second pass would spread it.
    """

    def __init__(self, module: nn.Module, flat: FlatParameters, max_grad_norm: float):
        from opacus.grad_sample import GradSampleHooksFastGradientClipping

        hooks = _with_unit_parameters(GradSampleHooksFastGradientClipping)
        super().__init__(hooks(module, loss_reduction="sum", strict=False, max_grad_norm=max_grad_norm), flat)

    def clipped_sum(self, losses: Losses, units: Tensor, max_grad_norm: float, out: Tensor) -> Clipped:
        for parameter in self.flat.parameters:
            parameter._norm_sample = torch.zeros(len(units), device=out.device, dtype=out.dtype)
        with torch.enable_grad():
            value = losses(units)
        with _quiet():
            value.sum().backward(retain_graph=True)
        self._hooks.max_grad_norm = max_grad_norm
        factors = self._hooks.get_clipping_coef().detach()
        norms = self._hooks.per_sample_gradient_norms.detach()
        if not bool(torch.isfinite(norms).all()):
            raise GuaranteeVoid("A gradient is not finite. Use training.backend=fast, which sets it to zero.")
        for parameter in self.flat.parameters:
            parameter.grad = None
        with self.paused(), _quiet():
            (factors * value).sum().backward()
        self._add([parameter.grad for parameter in self.flat.parameters], out)
        for parameter in self.flat.parameters:
            parameter.grad = None
        return Clipped(losses=value.detach(), norms=norms, factors=factors)


class Vmap:
    """`torch.func.vmap(grad)`: one gradient per unit with no book-keeping at all.

    A first pass without gradient writes down every random draw (dropout masks, latents); the vectorised pass
    replays unit i's share for unit i, so that all back ends see the same randomness.
    """

    def __init__(self, module: nn.Module, flat: FlatParameters, chunk_size: int = 64):
        self.flat = flat
        self._module = module
        self._names = [name for name, p in module.named_parameters() if p.requires_grad]
        self._chunk_size = chunk_size

    @contextmanager
    def paused(self):
        yield

    def close(self) -> None:
        pass

    def clipped_sum(self, losses: Losses, units: Tensor, max_grad_norm: float, out: Tensor) -> Clipped:
        with torch.no_grad(), RandomTape() as tape:
            value = losses(units)
        holder = _Holder(self._module, losses)
        parameters = {f"module.{name}": p.detach() for name, p in zip(self._names, self.flat.parameters)}

        def one_loss(parameters, unit, *draws):
            with RandomTape([draw.unsqueeze(0) for draw in draws]):
                return torch.func.functional_call(holder, parameters, (unit.unsqueeze(0),)).squeeze(0)

        axes = (None, 0, *(0 for _ in tape.draws))
        per_unit = torch.func.vmap(torch.func.grad(one_loss), in_dims=axes, chunk_size=self._chunk_size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            gradients = per_unit(parameters, units, *tape.draws)
        samples = [gradients[f"module.{name}"] for name in self._names]
        return _clip_samples(samples, value, max_grad_norm, out, self.flat)


class _Holder(nn.Module):
    """Lets `functional_call` swap the parameters of the module that `losses` closes over."""

    def __init__(self, module: nn.Module, losses: Losses):
        super().__init__()
        self.module = module
        self._losses = losses

    def forward(self, units: Tensor) -> Tensor:
        return self._losses(units)


@contextmanager
def _quiet():
    """Silences torch's remark that the data needs no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


class RandomTape(TorchFunctionMode):
    """Records random draws whose axis 0 is the unit, or replays `draws` in the same order."""

    _FACTORIES = (
        *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"),
        *("normal", "bernoulli", "multinomial", "poisson"),
    )
    _IN_PLACE = ("normal_", "uniform_", "exponential_", "bernoulli_", "random_")

    def __init__(self, draws: list[Tensor] | None = None):
        super().__init__()
        self.draws: list[Tensor] = [] if draws is None else list(draws)
        self._next = None if draws is None else iter(draws)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is nn.functional.dropout:
            return self._dropout(*args, **kwargs)
        if name in self._FACTORIES or name in self._IN_PLACE:
            if self._next is not None:
                return next(self._next)
            drawn = func(*args, **kwargs)
            self.draws.append(drawn.clone())
            return drawn
        return func(*args, **kwargs)

    def _dropout(self, input, p=0.5, training=True, inplace=False):
        if not training or p == 0.0:
            return input
        if self._next is not None:
            return input * next(self._next)
        mask = nn.functional.dropout(torch.ones_like(input), p, True)
        self.draws.append(mask)
        return input * mask


def _clip_samples(
    samples: list[Tensor], losses: Tensor, max_grad_norm: float, out: Tensor, flat: FlatParameters
) -> Clipped:
    """Clips per-unit gradients that exist in full, and adds their sum to `out`."""
    rows = [sample.detach().reshape(len(losses), -1) for sample in samples]
    squares = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float64).square_() for part in rows]
    norms = torch.stack(squares).sum(0).sqrt_().to(losses.dtype)
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        rows = [torch.where(finite[:, None], part, 0.0) for part in rows]
        norms = torch.where(finite, norms, 0.0)
    factors = torch.where(finite, clip_factors(norms, max_grad_norm), 0.0)
    for view, part in zip(flat.views(out), rows):
        view.view(-1).addmv_(part.t(), factors)
    return Clipped(losses=losses.detach(), norms=norms, factors=factors)


def _with_unit_parameters(hooks_class):
    """Teaches one of Opacus' hook classes the per-unit parameter, whose input is a number of units."""

    class Hooks(hooks_class):
        def __init__(self, module, **kwargs):
            self.GRAD_SAMPLERS = dict(hooks_class.GRAD_SAMPLERS)
            for child in module.modules():
                if getattr(child, "per_unit_parameter", False):
                    self.GRAD_SAMPLERS[type(child)] = _unit_parameter_samples
            super().__init__(module, **kwargs)

        def capture_activations_hook(self, module, inputs, output):
            if getattr(module, "per_unit_parameter", False):
                inputs = (output.new_empty(len(output), 0),)
            super().capture_activations_hook(module, inputs, output)

    return Hooks


def _unit_parameter_samples(module: nn.Module, _activations, gradients: Tensor) -> dict[nn.Parameter, Tensor]:
    parameter = next(p for p in module.parameters(recurse=False) if p.requires_grad)
    return {parameter: gradients.reshape(len(gradients), *parameter.shape)}
