"""Checks a release without trusting who made it: what was bought, what it cost, and all that was released."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dpsynth.data.tables.untrusted import MOST_CELLS
from dpsynth.privacy.verify.contents import check_histograms, check_rows, check_weights
from dpsynth.privacy.verify.derived import check_derived
from dpsynth.privacy.verify.evidence import Check, Evidence, Verification, problem_of
from dpsynth.privacy.verify.files import check_files, check_hashes, check_readable, check_signature
from dpsynth.privacy.verify.money import check_epsilon, check_selection, check_statement
from dpsynth.privacy.verify.purchases import check_events, check_ledger, check_recipe

__all__ = ["Check", "Verification", "verify"]

TRUSTED = (
    "that the ledger is the run's own, and its settings (budget, steps, rates) are those that ran",
    "that the noise named there was drawn, and that answers and weights came out of the stated events",
    "that the release was not chosen by looking at others, beyond what its ledger says",
    "that the facts declared as public were not read off the private table",
)

# In order. After a failure of `_FIRST` nothing can be read; what events cost is computed for those of a plan.
_STAGES: dict[str, Callable[[Evidence], str]] = {
    "files": check_files,
    "signature": check_signature,
    "hashes": check_hashes,
    "readable": check_readable,
    "ledger": check_ledger,
    "recipe": check_recipe,
    "events": check_events,
    "statement": check_statement,
    "epsilon": check_epsilon,
    "selection": check_selection,
    "histograms": check_histograms,
    "derived": check_derived,
    "weights": check_weights,
    "rows": check_rows,
}
_FIRST, _EVENTS = {"files", "readable"}, {"ledger", "recipe", "events"}
_PRICED = ("statement", "epsilon", "selection")


def verify(
    folder: str | Path, *, most_cells: int = MOST_CELLS, fingerprint: str | None = None
) -> Verification:
    """Plans again what the release says was planned, and compares all that can be computed again.

    Formal guarantee: a pass means that the ledger charges and finishes exactly the purchases that its recipe
    makes for the released schema, that they compose to at most the claimed epsilon at the claimed delta, and
    that nothing is released without one of them. What stays on trust is listed in `TRUSTED`; a signature by
    the key that was asked for ties it to whoever holds that key, one by any other key shows nothing.
    Edge cases: a non-private release passes if it says so; a void one fails; whatever cannot be read, is too
    large or takes too long to compute fails by name.

    Args:
      most_cells: rows times columns of the synthetic table, at most.
      fingerprint: of the key that must have signed it; None asks for none.
    """
    evidence, checks = Evidence(Path(folder), most_cells, fingerprint), []
    for name, look in _STAGES.items():
        failed = {check.name for check in checks if not check.passed}
        if failed & _FIRST or (name in _PRICED and failed & _EVENTS):
            continue
        try:
            detail = look(evidence)
        except Exception as error:  # whatever a stranger's file makes our code run into
            checks.append(Check(name=name, passed=False, detail=problem_of(error)))
        else:
            checks += [Check(name=name, passed=True, detail=detail)] if detail else []
    maker = (evidence.maker,) if all(check.passed for check in checks) else ()
    return Verification(claim=evidence.claim, checks=tuple(checks), trusted=(*TRUSTED, *maker))
