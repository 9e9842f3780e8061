"""A release as a model that answers with synthetic rows; needs the release and nothing private.

MLflow loads this module by name, so a registered model holds no pickle and no code but this package's.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.privacy.release import Release

MOST_ROWS = 1_000_000  # per request: a typing error must not fill a server's memory
DEFAULTS = {"n": 100, "seed": -1}  # a seed below 0 draws a fresh one
# What sampling imports; training needs more.
NEEDS = ("torch", "numpy", "pandas", "scipy", "pyarrow", "safetensors", "pydantic", "pyyaml")


class ServedRelease:
    """Samples from a release on request.

    Formal guarantee: post-processing of the release, so every answer, and all of them together, are covered
    by its certificate.
    """

    def __init__(self, release: Release):
        self.release = release

    def predict(self, model_input: Any = None, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Returns synthetic rows, one request after the other.

        Missing values are None, since the server writes JSON, which has no NaN.
        Edge cases: no input, or a frame without rows, is one request with the parameters alone. For sequences
        `n` counts entities.

        Args:
          model_input: a frame with one request per row: `n` is how many rows, `seed` (below 0 for a fresh
            one) makes them repeatable. Columns and cells that are missing follow `params`. A number, or a
            list of numbers, is `n` alone.
          params: `n` and `seed` for all requests.
        Raises:
          InvalidInput: `n` or `seed` is not a whole number, or `n` is out of bounds.
        """
        import pandas as pd

        common = {**DEFAULTS, **{key: value for key, value in (params or {}).items() if value is not None}}
        asked = [{k: v for k, v in row.items() if not pd.isna(v)} for row in _requests(model_input)]
        parts = [self._rows({**common, **row}) for row in asked or [{}]]
        return _json_ready(pd.concat(parts, ignore_index=True))

    def _rows(self, request: Mapping[str, Any]) -> pd.DataFrame:
        from dpsynth import pipeline

        problems = [
            Problem(key, f"{request[key]!r} is not a whole number.", "")
            for key in DEFAULTS
            if isinstance(request[key], bool) or not _is_whole(request[key])
        ]
        if not problems and not 1 <= request["n"] <= MOST_ROWS:
            problems = [
                Problem("n", f"{request['n']} is not in [1, {MOST_ROWS}].", "Ask for fewer at a time.")
            ]
        if problems:
            raise InvalidInput("the request", problems)
        seed = int(request["seed"])
        seed = seed if seed >= 0 else secrets.randbelow(2**31)
        return pipeline.sample(self.release, int(request["n"]), seed=seed)


def _requests(model_input: Any) -> list[dict[str, Any]]:
    """Returns one mapping per request, whatever a caller or MLflow's server made of the input."""
    import pandas as pd

    if model_input is None:
        return []
    many = pd.api.types.is_list_like
    if isinstance(model_input, Mapping) and not any(map(many, model_input.values())):
        return [dict(model_input)]
    if isinstance(model_input, pd.DataFrame | Mapping):
        return pd.DataFrame(model_input).to_dict("records")
    items = model_input if many(model_input) else [model_input]
    return [dict(item) if isinstance(item, Mapping) else {"n": item} for item in items]


def _json_ready(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with None where a value is missing; only columns that miss some change their dtype."""
    missing = frame.isna()
    for name in frame.columns[missing.any()]:
        frame[name] = frame[name].astype(object).where(~missing[name], None)
    return frame


def _is_whole(value: Any) -> bool:
    try:
        return float(value) == int(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _load_pyfunc(path: str) -> ServedRelease:
    """Loads a release for MLflow; the name is MLflow's."""
    from dpsynth.privacy.release import Release

    return ServedRelease(Release.load(path))
