"""A release as a model that answers with synthetic rows; needs the release and nothing private.

`dpsynth.tracking.served` makes it one of MLflow's.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.privacy.release.release import Release

MOST_ROWS = 1_000_000  # per request, and of all requests of a call: a typing error must not fill the memory
MOST_REQUESTS = 1_000  # per call
_MOST_PROBLEMS, _MOST_SEED = 5, 2**62
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
          InvalidInput: `n` or `seed` is no whole number, `n` is below 1, or one request, or all of a call
            together, ask for more rows than are made at once. Nothing was made.
        """
        import pandas as pd

        common = {**DEFAULTS, **{key: value for key, value in (params or {}).items() if value is not None}}
        asked = [{k: v for k, v in row.items() if not _is_missing(v)} for row in _requests(model_input)]
        requests = [{**common, **row} for row in asked or [{}]]
        if problems := list(_problems(requests, self.release.schema.unit.max_rows)):
            raise InvalidInput("the request", problems[:_MOST_PROBLEMS])
        return _json_ready(pd.concat([self._rows(request) for request in requests], ignore_index=True))

    def _rows(self, request: Mapping[str, Any]) -> pd.DataFrame:
        from dpsynth import pipeline

        seed = int(request["seed"])
        seed = seed if seed >= 0 else secrets.randbelow(2**31)
        return pipeline.sample(self.release, int(request["n"]), seed=seed)


def _problems(requests: Sequence[Mapping[str, Any]], rows_each: int) -> Iterator[Problem]:
    """What is wrong with the requests of a call, alone and together, before any row is made.

    Args:
      rows_each: that one of `n` may have.
    """
    if len(requests) > MOST_REQUESTS:
        yield Problem("requests", f"{len(requests):,} are above {MOST_REQUESTS:,}.", "Ask in several calls.")
        return
    whole = True
    for key, most in (("n", MOST_ROWS // rows_each), ("seed", _MOST_SEED)):
        for value in (request[key] for request in requests):
            if not _is_whole(value):
                whole = False
                yield Problem(key, f"{str(value)[:40]!r} is not a whole number.", "Write one.")
            elif value > most or (key == "n" and value < 1):
                yield Problem(key, f"{value:.6g} is not in [1, {most}].", "Ask for fewer at a time.")
    total = sum(request["n"] for request in requests) if whole else 0
    if total > MOST_ROWS // rows_each:
        rule = f"{total:.6g} in all are above {MOST_ROWS // rows_each}."
        yield Problem("n", rule, "Ask for fewer at a time.")


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


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_whole(value: Any) -> bool:
    import numpy as np

    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(value) and value == int(value)


def load(path: str) -> ServedRelease:
    """Loads a release, its files' hashes checked."""
    from dpsynth.privacy.release.release import Release

    return ServedRelease(Release.load(path))
