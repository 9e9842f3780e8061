"""What methods without a network have in common: nothing is trained, nothing has weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


class Untrained:
    """The part of a generator that one without a network leaves empty."""

    name: ClassVar[str]
    trains: ClassVar[bool] = False

    def to(self, device: Any) -> Any:
        return self

    def fit_public(self) -> None:
        return None

    def objective(self) -> None:
        return None

    def plain_objective(self) -> None:
        return None

    def fit_release(self) -> None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if state:
            raise ValueError(f"Expected no weights for {self.name}.")
