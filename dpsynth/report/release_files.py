"""What a release says about itself, read from its files: public and released facts alone."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.tables.untrusted import check_folder, read_facts, read_object
from dpsynth.data.wording import up
from dpsynth.errors import InvalidInput, Problem

FILES = ("synthetic.parquet", "generator.safetensors", "release.json", "ledger.json", "certificate.json")


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """A release's files, without the weights.

    Args:
      certificate, facts, records: contents of certificate.json, release.json and ledger.json.
    """

    folder: Path
    schema: Schema
    synthetic: pd.DataFrame
    certificate: Mapping[str, Any]
    facts: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]

    @property
    def claim(self) -> str:
        """In words: the guarantee, or its absence."""
        if self.stamp:
            return f"{self.stamp}: no privacy is promised"
        unit, rows = self.certificate["unit"], self.certificate.get("max_rows", 1)
        who = f"one {unit}" + (f" with at most {rows} rows" if rows > 1 else "")
        epsilon, delta = self.certificate["epsilon"], self.certificate["delta"]
        return f"ε = {up(epsilon)} at δ = {up(delta)}; {who}, added or removed"

    @property
    def stamp(self) -> str | None:
        """NON-PRIVATE or VOID; None where the claim stands."""
        return None if self.certificate["private"] else str(self.certificate["claim"])

    @property
    def generator(self) -> str:
        return str(self.facts["generator"]["name"])

    @property
    def plan(self) -> Mapping[str, Any]:
        return self.records[0]["plan"]


def read_release(folder: str | Path) -> ReleaseFacts:
    """Reads a release's files, after their hashes were found to be the certified ones.

    Raises:
      InvalidInput: the folder is not a release.
      GuaranteeVoid: a file was changed, or is nothing that a run writes.
    """
    folder = Path(folder)
    missing = [name for name in FILES if not os.path.lexists(folder / name)]
    if missing:
        fix = "Name the folder that holds certificate.json."
        raise InvalidInput(str(folder), [Problem(name, "is missing.", fix) for name in missing])
    certificate = check_folder(folder, FILES[:-1], FILES[-1])
    facts, ledger = read_facts(folder / "release.json"), read_object(folder / "ledger.json")
    return ReleaseFacts(
        folder=folder,
        schema=Schema.from_dict(facts["schema"]),
        synthetic=pd.read_parquet(folder / "synthetic.parquet"),
        certificate=certificate,
        facts=facts,
        records=ledger["records"],
    )


def certificate_table(release: ReleaseFacts) -> pd.DataFrame:
    """Returns the certificate for people: one row per statement."""
    certificate = release.certificate
    rows = [
        ("claim", certificate["claim"]),
        ("unit of privacy", certificate["unit"]),
        ("rows per unit, at most", certificate.get("max_rows")),
        ("neighbours", str(certificate["neighbours"]).replace("_", " ")),
        ("covers", certificate.get("covers")),
        ("ε declared", certificate.get("epsilon") if certificate["private"] else "infinite"),
        ("δ declared", certificate.get("delta")),
    ]
    for name, value in (certificate.get("accountants") or {}).items():
        rows.append((f"ε spent, by {name.replace('_', ' ')}", "infinite" if value is None else float(value)))
    rows += statement_rows(certificate)
    rows.append(("noise source", certificate.get("noise")))
    rows += [("void because", reason) for reason in certificate.get("void") or ()]
    rows += [(f"not covered ({n})", gap) for n, gap in enumerate(certificate.get("gaps") or (), 1)]
    return pd.DataFrame(rows, columns=["statement", "value"])


def statement_rows(certificate: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns what a register asks beside the claim, one statement a row."""
    definition, swap = certificate.get("definition") or {}, certificate.get("replace_one") or {}
    rows = [("definition of privacy", definition.get("name")), ("protects", certificate.get("protects"))]
    rows += [
        (f"ε at δ = {delta}", _number(value)) for delta, value in (definition.get("curve") or {}).items()
    ]
    for key, symbol, name in (("zcdp", "rho", "zCDP, ρ"), ("gdp", "mu", "Gaussian DP, μ")):
        if key in definition:
            bound = definition[key]
            rows.append((name, bound["note"] if bound[symbol] is None else up(bound[symbol])))
    for order, value in (definition.get("renyi") or {}).items():
        rows.append((f"Rényi divergence of order {order}", _number(value)))
    if swap.get("epsilon") is not None:
        text = f"ε = {up(swap['epsilon'])} at δ = {up(swap['delta'])}. {swap['note']}"
        rows.append(("one unit replaced by another", text))
    for key, title in (
        ("deployment", "model"),
        ("composition", "other runs"),
        ("hyperparameters", "settings"),
    ):
        if key in certificate:
            first, *_ = certificate[key].values()
            named = (
                "" if first is None else f"{first}. " if key != "composition" else f"ε = {up(first)} in all. "
            )
            rows.append((title, f"{named}{certificate[key]['note']}"))
    facts = certificate.get("public_facts") or {}
    for key in ("table", "settings"):
        if facts.get(key):
            rows.append((f"taken as public ({key})", ", ".join(facts[key])))
    if facts.get("columns"):
        text = "; ".join(f"{name}: {', '.join(known)}" for name, known in facts["columns"].items())
        rows.append(("taken as public (columns)", text))
    if certificate.get("unprotected"):
        rows.append(("not protected", "; ".join(certificate["unprotected"])))
    return rows + [(key, certificate[key]) for key in ("purpose", "rationale") if certificate.get(key)]


def _number(value: float | None) -> str:
    return "no bound" if value is None else up(value)


def ledger_table(release: ReleaseFacts) -> pd.DataFrame:
    """Returns one row per planned event: what it read, how noisy, whether charged."""
    kinds = [(record["kind"], record.get("event")) for record in release.records]
    shares = budget_shares(release.plan)
    rows = []
    for number, event in enumerate(release.plan["events"], 1):
        name = event["name"]
        rate, steps = _sampling(event["event"])
        rows.append(
            {
                "no.": number,
                "event": name,
                "reads": event.get("about") or event["stage"],
                "noise multiplier": float(event["noise_multiplier"] or 0.0),
                "sensitivity": float(event["sensitivity"]),
                "rate per step": rate,
                "steps": steps,
                "share": None if shares is None else f"{shares[name]:.1%}",
                "state": _state(kinds, name),
            }
        )
    return pd.DataFrame(rows)


def _state(kinds: Sequence[tuple[str, str | None]], name: str) -> str:
    if ("finish", name) in kinds:
        return "charged, finished"
    return "charged, open" if ("charge", name) in kinds else "not charged"


def _sampling(event: Mapping[str, Any]) -> tuple[float | None, int | None]:
    if event["type"] == "self_composed":
        return _sampling(event["event"])[0], event["count"]
    return event.get("sample_rate"), None


def budget_shares(plan: Mapping[str, Any]) -> dict[str, float] | None:
    """Returns each event's fraction of the budget; None without privacy.

    In units of 1 / noise_multiplier², which add up when Gaussian mechanisms compose; training has what the
    others leave, since Poisson sampling amplifies it.
    """
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


def stage_shares(plan: Mapping[str, Any]) -> dict[str, float] | None:
    """Returns the split of the budget by stage, in the order of the plan."""
    shares = budget_shares(plan)
    if shares is None:
        return None
    stages: dict[str, float] = {}
    for event in plan["events"]:
        stages[event["stage"]] = stages.get(event["stage"], 0.0) + shares[event["name"]]
    return stages


def gaussian_noise_multiplier(epsilon: float, delta: float) -> float:
    """Noise multiplier of the one Gaussian mechanism that is (epsilon, delta)-private.

    Source: Balle & Wang (2018), theorem 8.
    """
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    def excess(log_sigma: float) -> float:
        sigma = math.exp(log_sigma)
        inside = log_ndtr(0.5 / sigma - epsilon * sigma)
        outside = epsilon + log_ndtr(-0.5 / sigma - epsilon * sigma)
        return inside + math.log(-math.expm1(min(outside - inside, -1e-300))) - math.log(delta)

    return math.exp(brentq(excess, -8.0, 12.0, xtol=1e-12))
