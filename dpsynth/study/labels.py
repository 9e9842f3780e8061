"""What a run is called, and what it declares, before any plan exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpsynth.config import RunConfig
from dpsynth.data.wording import up

if TYPE_CHECKING:
    pass


def label_of(config: RunConfig) -> str:
    """Names a run for people."""
    return f"{method_of(config)} {claim_of(config)} seed={config.seed}"


def name_of(config: RunConfig) -> str:
    """Names a run where there is little room: in the columns of MLflow."""
    privacy = config.privacy
    budget = f"ε={up(privacy.total_epsilon)}" if privacy.private else "no DP"
    return f"{config.generator_name} {budget} s{config.seed}"


def claim_of(config: RunConfig) -> str:
    """Returns what is declared, before any plan exists."""
    privacy = config.privacy
    return (
        f"epsilon={up(privacy.total_epsilon)}, delta={up(privacy.delta)}"
        if privacy.private
        else "NON-PRIVATE"
    )


def method_of(config: RunConfig) -> str:
    """Names the line of a frontier that a run belongs to; parts of privacy alone are lines of their own."""
    alone = {"clipping": "clipping alone", "encoding": "bought statistics alone"}.get(config.privacy.name)
    return f"{config.generator_name}, {alone}" if alone else config.generator_name
