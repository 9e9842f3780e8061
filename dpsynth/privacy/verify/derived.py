"""Whether what follows from bought answers was made of them: groups of cells, sizes, the encoder's facts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dpsynth.data.tables.untrusted import shown
from dpsynth.privacy.verify.evidence import Evidence, refuse

_CLOSE = 1e-6  # relative, of numbers that the same code computes on another machine


def check_derived(evidence: Evidence) -> str:
    """Statistics and encoder hold what bought answers, schema and settings make, and nothing beside it."""
    from dpsynth.generators.base import load_generator
    from dpsynth.privacy.measuring.measure import derived, sums

    recipe, schema, statistics = evidence.recipe, evidence.schema, evidence.statistics
    method = load_generator(recipe.generator).Generator
    bare = replace(
        statistics,
        num_rows=statistics.num_units,
        domain=type(statistics.domain)(tuple(cells.fine for cells in statistics.domain.cells)),
        marginals=(),
    )
    if statistics.crossed:
        bare = replace(bare, fine=sums(bare.domain, bare.crossed, evidence.plan.request.crossed))
    made = derived(bare, schema, evidence.plan, method.encoder_type.max_cells)
    made = replace(made, marginals=statistics.marginals)
    own = method.encoder(recipe.settings, schema, statistics, private=recipe.privacy.shaped)
    again = {"statistics": made.to_dict(), "encoder": json.loads(json.dumps(own.to_dict()))}
    same = evidence.same_code
    refuse(_differences({key: evidence.facts[key] for key in again}, again, "", numbers=same))
    how = "as bought answers make them" if same else "of the form that bought answers give them"
    return f"rows, groups of cells and the encoder are {how}"


def _differences(stated: Any, expected: Any, where: str, *, numbers: bool) -> Iterator[str]:
    """Where two contents differ; numbers may by rounding, or in any way where another code made them."""
    if isinstance(expected, Mapping) and isinstance(stated, Mapping):
        for key in sorted({*expected, *stated}):
            if key not in expected or key not in stated:
                fault = "is missing" if key in expected else "follows from nothing"
                yield f"{where}{shown(key, 80)} {fault}."
            else:
                yield from _differences(stated[key], expected[key], f"{where}{key} ", numbers=numbers)
    elif isinstance(expected, list) and isinstance(stated, list):
        if len(expected) != len(stated):
            yield f"{where}has {len(stated)} entries, not {len(expected)}."
            return
        for one, other in zip(stated, expected):
            yield from _differences(one, other, where, numbers=numbers)
    elif _is_number(expected) and _is_number(stated):
        if numbers and not math.isclose(stated, expected, rel_tol=_CLOSE, abs_tol=1e-9):
            yield f"{where}is not what bought answers make."
    elif stated != expected:
        yield f"{where}is {shown(repr(stated), 80)}, not {shown(repr(expected), 80)}."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
