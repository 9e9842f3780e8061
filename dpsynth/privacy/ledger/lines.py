"""What stands in a ledger: lines chained by hashes, and events as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dpsynth.privacy.accounting.events import event_from_dict

if TYPE_CHECKING:
    from dpsynth.privacy.accounting.accountants import Accounts

START = "0" * 64


def canonical(content: Any) -> str:
    """JSON text that is equal for equal content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


# Where and how the training event is computed; may change when a run goes on.
_EXECUTION = ("physical_batch_size", "backend", "device")


def mechanism(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a plan without what may differ when the run goes on: where and how its events are computed."""
    training = plan["training"]
    if training is None:
        return dict(plan)
    return {**plan, "training": {k: v for k, v in training.items() if k not in _EXECUTION}}


def check_chain(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lists what is wrong with the records of a ledger: order, hashes, charges that no plan covers."""
    if not records or records[0].get("kind") != "plan":
        return ["The ledger does not begin with its plan."]
    faults, previous = [], START
    planned = [event["name"] for event in records[0]["plan"]["events"]]
    charged: list[str] = []
    finished: set[str] = set()
    for index, record in enumerate(records):
        body = {key: value for key, value in record.items() if key != "hash"}
        if record.get("index") != index:
            faults.append(f"Line {index} says it is line {record.get('index')}.")
        if record.get("previous") != previous:
            faults.append(f"Line {index} does not follow the line before it.")
        if record.get("hash") != line_hash(body):
            faults.append(f"Line {index} was changed after it was written.")
        previous = record.get("hash")
        kind, event = record.get("kind"), record.get("event")
        if kind == "charge":
            if event not in planned:
                faults.append(f"Line {index} charges {event!r}, which is not in the plan.")
            if event in charged:
                faults.append(f"Line {index} charges {event!r} a second time.")
            if charged and event in planned and planned.index(event) < planned.index(charged[-1]):
                faults.append(f"Line {index} charges {event!r} out of the plan's order.")
            charged.append(event)
        elif kind in ("continue", "finish"):
            if event not in charged or event in finished:
                faults.append(f"Line {index} says {kind} of {event!r}, which is not open.")
            if kind == "finish":
                finished.add(event)
        elif kind not in ("plan", "void") or (kind == "plan" and index > 0):
            faults.append(f"Line {index} is of an unknown kind {kind!r}.")
    return faults


def line_hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def spent(records: Sequence[Mapping[str, Any]]) -> Accounts:
    """What the charged events of a ledger's records cost, by every accountant."""
    plan = records[0]["plan"]
    charged = {record["event"] for record in records if record["kind"] == "charge"}
    events = canonical([e["event"] for e in plan["events"] if e["name"] in charged])
    return _cost(events, plan["guarantee"]["delta"])


@lru_cache(maxsize=16)  # an audit runs one plan hundreds of times
def _cost(events: str, delta: float | None) -> Accounts:
    """Costs of events in their canonical text."""
    from dpsynth.privacy.accounting import accountants

    parts = [event_from_dict(event) for event in json.loads(events)]
    return accountants.epsilon(parts, delta or accountants.MIN_DELTA)
