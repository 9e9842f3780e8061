"""Which layers a private network may have, and its parameters as one flat vector."""

from __future__ import annotations

from torch import Tensor, nn

from dpsynth.errors import InvalidInput, Problem


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
