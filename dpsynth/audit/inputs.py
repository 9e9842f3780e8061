"""Refuses tables that cannot be attacked, before anything is computed, with every problem at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.attacks.shadow import MIN_SHADOWS
from dpsynth.audit.attacks.suite import ATTACKS
from dpsynth.audit.canaries import row_hashes
from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.configs import ReleaseConfig

MIN_TARGETS = 50


def check_tables(
    synthetic,
    members,
    nonmembers,
    reference,
    config: ReleaseConfig,
    *,
    can_fit: bool = False,
    has_model: bool = False,
) -> None:
    """Refuses tables that cannot be attacked, with every problem at once.

    Attacks that need what is not there are left out, as long as one is left.
    """
    problems: list[Problem] = []
    named = {"members": members, "nonmembers": nonmembers}
    named |= {} if reference is None else {"reference": reference}
    if len(synthetic) == 0:
        problems.append(
            Problem("release", "The synthetic table has no rows.", "Sample from the release first.")
        )
    for name, table in named.items():
        gone = [c for c in synthetic.columns if c not in table.columns]
        if gone:
            problems.append(Problem(name, f"Lacks columns {gone}.", "Give it the columns of the release."))
        elif len(table) < MIN_TARGETS:
            problems.append(Problem(name, f"Has fewer than {MIN_TARGETS} rows.", "Give more rows."))
    if config.shadows and (not can_fit or reference is None):
        rule = "Needs a reference, and the run that made the release: its method is trained again."
        problems.append(Problem("audit.shadows", rule, "Set audit.shadows=0."))
    elif 0 < config.shadows < MIN_SHADOWS:
        rule = f"{config.shadows} shadows show no worlds."
        problems.append(Problem("audit.shadows", rule, f"Take {MIN_SHADOWS} at least, 32 if you can."))
    problems += [
        Problem("audit.secrets", f"The release has no column {name!r}.", "Correct audit.secrets.")
        for name in config.secrets or ()
        if name not in synthetic.columns
    ]
    unknown = [a for a in config.attacks if a not in ATTACKS]
    if unknown:
        problems.append(Problem("audit.attacks", f"Unknown: {unknown}.", f"Choose from {sorted(ATTACKS)}."))
    lacks = {
        ATTACKS[a].lacks(reference=reference is not None, model=has_model)
        for a in config.attacks
        if a in ATTACKS
    }
    if not unknown and None not in lacks and not config.shadows:
        rule = f"None of {list(config.attacks)} can run without {' and '.join(sorted(lacks))}."
        problems.append(Problem("audit.attacks", rule, "Give it, or add attacks on rows: copy, density."))
    if (
        config.require_fpr is not None
        and min(len(nonmembers), config.max_targets // 2) < 10 / config.require_fpr
    ):
        need = int(np.ceil(10 / config.require_fpr))
        rule = f"A false-positive rate of {config.require_fpr:g} needs {need} non-members."
        problems.append(
            Problem("nonmembers", rule, f"Give more, set audit.max_targets={2 * need}, or ask for less.")
        )
    if not problems:
        shared = _overlaps(named, list(synthetic.columns))
        problems += [
            Problem(f"{a} and {b}", "Share rows.", "Remove trained-on rows from the other table.")
            for a, b in shared
        ]
    if problems:
        raise InvalidInput("the release audit", problems)


def _overlaps(named: dict[str, pd.DataFrame], columns: Sequence[str]) -> list[tuple[str, str]]:
    """Finds pairs of tables that share more rows than equal people explain.

    Rows of tables with few columns repeat by nature, so the share of rows of one that are found in the other
    is compared with the share of rows of the larger table that have a twin in it: a small one holds too few
    twins to tell.
    """
    hashes, pairs = {name: row_hashes(table, columns) for name, table in named.items()}, []
    names = list(hashes)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            found = float(np.mean(np.isin(hashes[b], hashes[a])))
            backwards = float(np.mean(np.isin(hashes[a], hashes[b])))
            if max(found, backwards) > 0.01 + 1.5 * _twins(max(hashes[a], hashes[b], key=len)):
                pairs.append((a, b))
    return pairs


def _twins(hashes: np.ndarray) -> float:
    """Share of rows that have a twin among the others."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return float(np.mean(counts[inverse] > 1))
