"""Risks that are not about membership: attribute inference, singling out, linkability.

Each attack runs on members and, unchanged, on a control group that was not trained on. What it finds out
about the control group is science; only the excess is disclosure. Risks are shares with intervals, and
neither epsilon nor a verdict follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from dpsynth.audit.attacks.space import Space, as_float, as_text, is_numeric, nearest

if TYPE_CHECKING:
    import pandas as pd


def risks(
    synthetic: pd.DataFrame,
    members: pd.DataFrame,
    control: pd.DataFrame,
    *,
    secrets: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Returns all risks by metric name: `risk/ATTACK`, and its interval, `risk/ATTACK_lo` and `_hi`.

    Linkability joins the columns in even with those in odd places.

    Args:
      secrets: columns to infer from all others.
    """
    columns = list(synthetic.columns)
    tables = (synthetic, members, control)
    found = [attribute_inference(*tables, secret=name) for name in secrets]
    found.append(singling_out(*tables, rng=rng))
    if len(columns) > 1:
        found.append(linkability(*tables, left=columns[::2], right=columns[1::2]))
    named: dict[str, float] = {}
    for risk in found:
        head = f"risk/{risk.attack}"
        named |= {head: risk.risk, f"{head}_lo": risk.lower, f"{head}_hi": risk.upper}
    return named


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Success of an attack on members beyond its success on the control group.

    Args:
      members, control: shares of successful attacks, Wilson centres.
      risk, lower, upper: (members - control) / (1 - control), and its interval; at least 0.
    """

    attack: str
    members: float
    control: float
    risk: float
    lower: float
    upper: float
    num_attacks: int


def wilson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Returns centre and half width of the Wilson interval of a share."""
    z = -ndtri((1 - level) / 2)
    share = hits / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return float(centre), float(half)


def _risk(attack: str, members: np.ndarray, control: np.ndarray, level: float) -> Risk:
    """Combines two independent Wilson intervals by propagation of their half widths.

    Source: Giomi, Boenisch, Wehmeyer and Tasnadi (2023), equations 3 to 5.
    """
    (m, dm), (c, dc) = (wilson(int(x.sum()), len(x), level) for x in (members, control))
    value = (m - c) / (1 - c) if c < 1 else 0.0
    half = np.hypot(dm / (1 - c), dc * (1 - m) / (1 - c) ** 2) if c < 1 else 1.0
    return Risk(
        attack=attack,
        members=m,
        control=c,
        risk=max(0.0, value),
        lower=float(np.clip(value - half, 0, 1)),
        upper=float(np.clip(value + half, 0, 1)),
        num_attacks=len(members),
    )


def attribute_inference(
    synthetic: pd.DataFrame,
    members: pd.DataFrame,
    control: pd.DataFrame,
    *,
    secret: str,
    known: list[str] | None = None,
    tolerance: float = 0.05,
    level: float = 0.95,
) -> Risk:
    """Guesses `secret` as that of the synthetic row nearest in the columns that the attacker knows.

    Args:
      tolerance: a number counts as guessed within this share of its synthetic 5 to 95 % range.
    """
    known = [c for c in synthetic.columns if c != secret] if known is None else known
    space = Space.fit(synthetic[known])
    base = space.embed(synthetic[known])
    hits = []
    for targets in (members, control):
        near = nearest(space.embed(targets[known]), base, 1)[1][:, 0]
        guessed, truth = synthetic[secret].iloc[near], targets[secret]
        if is_numeric(synthetic[secret]):
            low, high = np.nanquantile(as_float(synthetic[secret]), [0.05, 0.95])
            hits.append(np.abs(as_float(guessed) - as_float(truth)) <= tolerance * (high - low))
        else:
            hits.append(as_text(guessed).to_numpy() == as_text(truth).to_numpy())
    return _risk(f"attribute_{secret}", *hits, level)


def singling_out(
    synthetic: pd.DataFrame,
    members: pd.DataFrame,
    control: pd.DataFrame,
    *,
    num_attacks: int = 500,
    num_columns: int = 3,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Risk:
    """Guesses predicates that hold for exactly one member, read off synthetic rows.

    A predicate takes a synthetic row and a few columns: a category must be equal, a number at least (or at
    most) the row's value, on the side of the row's nearer end. Control and members are cut to one size,
    for the chance to be alone depends on it.
    """
    size = min(len(members), len(control))
    tables = [t.iloc[rng.choice(len(t), size, replace=False)] for t in (members, control)]
    columns = list(synthetic.columns)
    encoded = [_comparable(t, synthetic) for t in (synthetic, *tables)]
    hits = np.zeros((2, num_attacks), bool)
    for i in range(num_attacks):
        row = rng.integers(len(synthetic))
        chosen = rng.choice(len(columns), min(num_columns, len(columns)), replace=False)
        for j, table in enumerate(encoded[1:]):
            holds = np.ones(size, bool)
            for c in chosen:
                value, (kind, values) = encoded[0][c][1][row], table[c]
                if kind == "category" or np.isnan(value):
                    holds &= (values == value) if not np.isnan(value) else np.isnan(values)
                else:
                    upper = value >= np.nanmedian(encoded[0][c][1])
                    holds &= values >= value if upper else values <= value
            hits[j, i] = holds.sum() == 1
    return _risk("singling_out", hits[0], hits[1], level)


def _comparable(table: pd.DataFrame, synthetic: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    out = []
    for name in synthetic.columns:
        if is_numeric(synthetic[name]):
            out.append(("number", as_float(table[name])))
        else:
            known = {v: float(i) for i, v in enumerate(as_text(synthetic[name]).unique())}
            out.append(("category", as_text(table[name]).map(known).fillna(-1.0).to_numpy(float)))
    return out


def linkability(
    synthetic: pd.DataFrame,
    members: pd.DataFrame,
    control: pd.DataFrame,
    *,
    left: list[str],
    right: list[str],
    neighbours: int = 1,
    level: float = 0.95,
) -> Risk:
    """Links two halves of a unit: success when both have a synthetic row in common among their nearest."""
    hits, spaces = [], [(side, Space.fit(synthetic[side])) for side in (left, right)]
    bases = [space.embed(synthetic[side]) for side, space in spaces]
    for targets in (members, control):
        near = [
            nearest(space.embed(targets[side]), base, neighbours)[1]
            for (side, space), base in zip(spaces, bases)
        ]
        hits.append((near[0][:, :, None] == near[1][:, None, :]).any(axis=(1, 2)))
    return _risk("linkability", *hits, level)
