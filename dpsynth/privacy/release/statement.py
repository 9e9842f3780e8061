"""What a register of deployments asks about a release, from its ledger and schema alone.

The fields follow NIST SP 800-226 and tier 3 of the OpenDP Deployments Registry. All of them are public, and
`verify` makes them again. Figures are upper bounds, rounded up; None stands for infinity or for no bound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dpsynth.data.schema import Schema
from dpsynth.data.units.units import units_of
from dpsynth.privacy.accounting.events import event_from_dict
from dpsynth.privacy.ledger.lines import canonical

DELTAS = tuple(10.0**-power for power in range(3, 10))
_ORDERS = (2, 4, 8, 16, 32, 64)
_HOW = {  # what decided the settings, and whether the claim counts it
    "unstated": (False, "Whoever ran it does not say. A choice among several runs is not covered."),
    "fixed": (True, "Its configuration was given, and is the only one of its command."),
    "grid": (False, "One point of a fixed grid. Publishing the best of them, after looking, is not covered."),
    "search": (False, "Settings followed from figures of earlier runs on private rows; that is not covered."),
    "private selection": (True, "Chosen among trials by a paid score; the claim counts the choice."),
}
_UNPROTECTED = (
    "timing, memory use and messages of the operating system",
    "that the run was made and ended, and how often it was resumed",
    "that the table fits its schema: a table that breaks it is refused before anything is charged",
    "the schema, every setting and the number of rows asked for, which are public",
)


def statement(records: Sequence[Mapping[str, Any]], schema: Schema) -> dict[str, Any]:
    """Returns the fields of a certificate beside its claim.

    Args:
      records: of the ledger.
    """
    plan, recipe = records[0]["plan"], records[0].get("recipe") or {}
    selected = records[0].get("selection") is not None
    charged = {record["event"] for record in records if record["kind"] == "charge"}
    holds = plan["private"] and not any(record["kind"] == "void" for record in records)
    bought = [event for event in plan["events"] if event["name"] in charged]
    return {
        "definition": _definition(plan, bought, selected) if holds else {"name": "none"},
        "protects": _unit_sentence(schema),
        "replace_one": _replace_one(records, holds),
        "deployment": {
            "model": "central",
            "note": "Who ran it holds the rows and is trusted with them. What leaves is the release alone.",
        },
        "public_facts": _public_facts(schema, recipe),
        "unprotected": list(_UNPROTECTED),
        "events": list(_events(plan, bought)),
        "composition": _composition(recipe),
        "hyperparameters": _chosen("private selection" if selected else recipe.get("chosen", "unstated")),
        "purpose": recipe.get("purpose", ""),
        "rationale": recipe.get("rationale", ""),
    }


def _definition(
    plan: Mapping[str, Any], bought: Sequence[Mapping[str, Any]], selected: bool
) -> dict[str, Any]:
    name = {"name": "(epsilon, delta)-differential privacy"}
    if selected:
        return name | {"note": "Of a choice among trials epsilon is stated at the claim's delta alone."}
    return name | _bounds(canonical([event["event"] for event in bought]), plan["guarantee"]["epsilon"])


@lru_cache(maxsize=16)
def _bounds(events: str, epsilon: float) -> dict[str, Any]:
    """The curve of epsilon by PLD, and zCDP, GDP or Renyi bounds where they are proven.

    Source: Bun & Steinke (2016), Proposition 1.6; Dong, Roth & Su (2022), Corollary 3.3; Mironov, Talwar &
    Zhang (2019) for steps with Poisson sampling. Estimates by a central limit are no bounds and not stated.
    """
    import numpy as np

    from dpsynth.privacy.accounting import accountants
    from dpsynth.privacy.accounting.selection import renyi_curve

    parts = accountants.Ingredients.of(event_from_dict(event) for event in json.loads(events))
    curve = accountants.privacy_profile(parts, DELTAS, accountants.grid_for(epsilon))
    renyi = renyi_curve(parts, np.array(_ORDERS, dtype=float))
    rho = parts.gaussian / 2 + sum(each**2 for each in parts.choices) / 8
    about = "With probability 1 - failure." if parts.failure else "Exact for Gaussian events."
    pure = not (parts.sampled or parts.choices or parts.failure)
    sampled = "A step with sampling has no zCDP bound that is close; see renyi." if parts.sampled else None
    mixed = "Sampled steps, choices or failures take part, and no bound on mu is proven for them."
    return {
        "curve": {f"{delta:.0e}": _up(value) for delta, value in zip(DELTAS, curve)},
        "zcdp": {"rho": None if parts.sampled else _up(rho), "note": sampled or about},
        "gdp": {"mu": _up(math.sqrt(parts.gaussian)) if pure else None, "note": "Exact." if pure else mixed},
        "renyi": {str(order): _up(float(value)) for order, value in zip(_ORDERS, renyi)},
        "failure": parts.failure,
        "note": "Epsilon by privacy loss distributions. The other bounds are for Gaussian noise as it is "
        "charged; that one-off noise is discrete costs at most 1e-6 of epsilon, which the curve holds.",
    }


def _up(value: float) -> float | None:
    from dpsynth.privacy.accounting.accountants import round_up

    return round_up(value) if math.isfinite(value) else None


def _unit_sentence(schema: Schema) -> str:
    """Whom the claim protects, and what happens above the cap."""
    units = units_of(schema)
    if units.by_row:
        return "One row, present or absent. Rows of one person are protected one by one, not together."
    order = f", in the order of {units.time}" if units.time else ""
    return (
        f"All rows that share one value of {units.name}, present or absent together{order}. Of a unit with "
        f"more than {units.max_rows} rows the first {units.max_rows} in the file are read, the others never."
    )


def _replace_one(records: Sequence[Mapping[str, Any]], holds: bool) -> dict[str, Any]:
    """What the claim says where one unit takes another's place.

    Source: Vadhan (2017), Lemma 2.2, for groups of two.
    """
    guarantee = records[0]["plan"]["guarantee"]
    epsilon = (records[0].get("selection") or guarantee)["epsilon"]
    note = "Group bound for one removal and one addition: 2 epsilon, (1 + exp(epsilon)) delta."
    if epsilon is None or not holds:
        return {"epsilon": None, "delta": None, "note": note}
    delta = guarantee["delta"] * (1 + math.exp(min(epsilon, 700.0)))
    return {"epsilon": 2 * epsilon, "delta": min(1.0, _up(delta * 1e12) / 1e12), "note": note}


def _public_facts(schema: Schema, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Names what is taken as public: facts of the table, of each column, and settings."""
    content = schema.to_dict()
    columns = {column["name"]: sorted(set(column) - {"name"}) for column in content["columns"]}
    settings = [f"{group}.{key}" for group in ("privacy", "training") for key in recipe.get(group, {})]
    return {
        "table": sorted(set(content) - {"columns", "version"}) + ["names and order of columns"],
        "columns": columns,
        "settings": [*sorted(settings), "generator", "num_rows", "seed"],
    }


def _events(plan: Mapping[str, Any], bought: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The table of purchases: mechanism, noise, sensitivity, rate, steps, share of the budget."""
    shares = budget_shares(plan)
    for event in bought:
        rate, steps = _sampling(event["event"])
        yield {
            "name": event["name"],
            "mechanism": _mechanism(event["event"]),
            "noise_multiplier": event["noise_multiplier"],
            "sensitivity": event["sensitivity"],
            "sample_rate": rate,
            "steps": steps,
            "share": None if shares is None else round(shares[event["name"]], 4),
        }


def _mechanism(event: Mapping[str, Any]) -> str:
    inner = event.get("event") or event
    if event["type"] == "composed":
        return " and ".join(dict.fromkeys(_mechanism(part) for part in event["events"]))
    if event["type"] == "self_composed":
        return _mechanism(inner)
    if event["type"] == "poisson_sampled":
        return f"{_mechanism(inner)} with Poisson sampling"
    return str(event["type"]).replace("_", " ")


def _sampling(event: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Returns the rate per step and the number of steps of an event; None where it has none."""
    if event["type"] == "self_composed":
        return _sampling(event["event"])[0], event["count"]
    return event.get("sample_rate"), None


def budget_shares(plan: Mapping[str, Any]) -> dict[str, float] | None:
    """Returns each event's fraction of the budget; None without privacy.

    In units of 1 / noise_multiplier², which add up when Gaussian mechanisms compose; training has what the
    others leave, since Poisson sampling amplifies it.
    """
    from dpsynth.privacy.accounting.calibration import gaussian_noise_multiplier

    guarantee = plan["guarantee"]
    if not plan["private"] or not guarantee["epsilon"]:
        return None
    whole = gaussian_noise_multiplier(guarantee["epsilon"], guarantee["delta"]) ** -2
    events = plan["events"]
    parts = {
        e["name"]: e["noise_multiplier"] ** -2 / whole
        if e["stage"] != "training" and e["noise_multiplier"]
        else 0.0
        for e in events
    }
    rest = max(0.0, 1.0 - sum(parts.values()))
    training = [e["name"] for e in events if e["stage"] == "training"]
    return parts | {name: rest / len(training) for name in training}


def _composition(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of other runs on the table; the owner's sum over them is made of plans, hence public."""
    privacy = recipe.get("privacy", {})
    epsilon = privacy.get("lifetime_epsilon")
    if epsilon is None:
        note = "Other runs on the table add to this one; no bound on all of them was declared."
        return {"lifetime_epsilon": None, "lifetime_delta": None, "note": note}
    note = (
        "All runs that were charged to the table's ledger compose to at most this. Their sum so far is kept "
        "by its owner; it is made of plans alone, and may be published."
    )
    return {"lifetime_epsilon": epsilon, "lifetime_delta": privacy.get("lifetime_delta"), "note": note}


def _chosen(how: str) -> dict[str, Any]:
    covered, note = _HOW[how]
    return {"chosen": how, "covered": covered, "note": note}
