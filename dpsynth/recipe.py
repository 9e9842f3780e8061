"""What to do with a table. Public, and kept in the ledger's head, so that a stranger can plan it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dpsynth.errors import InvalidInput, Problem
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

_OF_ITS_OWNER = ("dataset", "dataset_ledger")  # where the owner adds up, which changes no event
CHOSEN = ("unstated", "fixed", "grid", "search")
_WORDS = ("chosen", "purpose", "rationale")
_FIX = "Read the release with the version that made it."
_MOST_WEIGHTS = 2**28  # of a network, roughly: 1 GB
_ROUNDS = ("rounds", "adaptive_rounds", "choices")
_COUNTS = ("steps", "pool", "batch_size", "epochs", "rounds", "iterations", "cutoff", "every", "sequence_len")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to do with a table; public.

    Args:
      generator: name of a method in `dpsynth.generators`.
      settings: that method's `Config`.
      privacy, training: the declared budget, and how private networks are trained.
      seed: public: weights, latents, generated rows. Never the privacy noise.
      num_rows: rows to release; None releases the bought count.
      chosen: how the settings were: "fixed" beforehand, one point of a "grid", by a "search"; or "unstated".
      purpose, rationale: what the release is for, and why with this budget; in the owner's words.
    """

    generator: str
    settings: Any
    privacy: PrivacyConfig
    training: TrainingConfig
    seed: int = 0
    num_rows: int | None = None
    chosen: str = "unstated"
    purpose: str = ""
    rationale: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, without paths of the owner's machine."""
        privacy = {key: value for key, value in asdict(self.privacy).items() if key not in _OF_ITS_OWNER}
        training = asdict(self.training)
        if training["public_validation"] is not None:
            training["public_validation"] = Path(training["public_validation"]).name
        content = {
            "generator": self.generator,
            "settings": asdict(self.settings),
            "privacy": privacy,
            "training": training,
            "seed": self.seed,
            "num_rows": self.num_rows,
            **{key: getattr(self, key) for key in _WORDS},
        }
        return json.loads(json.dumps(content, allow_nan=False))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """The inverse, for whoever plans again; looks at a public table, which change no event, are left out.

        Raises:
          InvalidInput: an unknown method, or content that is not exactly what `to_dict` writes.
        """
        from pydantic import TypeAdapter, ValidationError

        parts = _mapping("recipe", content)
        training = _mapping("training", parts.get("training"))
        looks = {key: training.get(key) for key in ("public_validation", "early_stop_delta")}
        if looks["public_validation"] is not None:
            training = training | {"public_validation": None, "early_stop_delta": None}
        try:
            recipe = cls(
                generator=parts.get("generator"),
                settings=settings_of(parts.get("generator"), parts.get("settings")),
                privacy=TypeAdapter(PrivacyConfig).validate_python(parts.get("privacy")),
                training=TypeAdapter(TrainingConfig).validate_python(training),
                seed=parts.get("seed"),
                num_rows=parts.get("num_rows"),
                **{key: parts.get(key) for key in _WORDS},
            )
        except (ValidationError, TypeError, ValueError) as error:
            rule = f"Is no budget or training ({type(error).__name__})."
            raise InvalidInput("the recipe", [Problem("recipe", rule, _FIX)]) from None
        if recipe.chosen not in CHOSEN or not all(isinstance(parts[key], str) for key in _WORDS):
            raise InvalidInput("the recipe", [Problem("chosen", "Is not what a run writes.", _FIX)])
        again = recipe.to_dict()
        again["training"] |= looks if looks["public_validation"] is not None else {}
        if again != content:
            keys = sorted(key for key in {*again, *parts} if again.get(key) != parts.get(key))
            raise InvalidInput(
                "the recipe", [Problem(key, "Is not what a run writes.", _FIX) for key in keys]
            )
        return recipe


def settings_of(generator: Any, content: Any) -> Any:
    """Returns a method's `Config` from its JSON-able form, which a stranger may have written.

    Raises:
      InvalidInput: a method, key or value that there is not, or sizes beyond any that is used.
    """
    from pydantic import TypeAdapter, ValidationError

    from dpsynth.generators.base import load_generator

    config = load_generator(str(generator)).Config
    known = {field.name for field in fields(config)}
    if unknown := sorted(set(_mapping("settings", content)) - known):
        raise InvalidInput("the recipe", [Problem(key, "Is no setting.", _FIX) for key in unknown])
    try:
        settings = TypeAdapter(config).validate_python(content)
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        rule = f"Are none of {generator}'s ({type(error).__name__})."
        raise InvalidInput("the recipe", [Problem("settings", rule, _FIX)]) from None
    if problems := list(_size_problems(asdict(settings))):
        raise InvalidInput("the recipe", problems)
    return settings


def _size_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Sizes that would fill the memory or never end; numbers of declared distributions are no sizes."""
    widths, layers = 0, 1
    for name, value in ((key, number) for key, item in settings.items() for number in _whole_numbers(item)):
        most = 1_000 if name in _ROUNDS else 10_000_000
        if abs(value) > most:
            yield Problem(name, f"Is above {most:,}.", "Lower it.")
        if any(word in name for word in ("layers", "blocks")):
            layers += abs(value)
        elif not any(word in name for word in _COUNTS):
            widths += abs(value)
    if layers * widths**2 > _MOST_WEIGHTS:
        rule = f"Ask for {layers} layers, {widths:,} wide in all."
        yield Problem("settings", rule, "Ask for a smaller network.")


def _whole_numbers(item: Any) -> list[int]:
    items = item if isinstance(item, list | tuple) else [item]
    return [value for value in items if isinstance(value, int) and not isinstance(value, bool)]


def _mapping(where: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise InvalidInput("the recipe", [Problem(where, "Is missing.", "Make the release anew.")])
    return dict(content)
