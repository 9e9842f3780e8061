"""Charges a run to its table before anything is read: what all runs spend together, over days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.privacy.configs import PrivacyConfig
    from dpsynth.privacy.many_runs.costs import Cost, Spent
    from dpsynth.privacy.plan.plan import Plan
    from dpsynth.privacy.release.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Account:
    """To whom a run is charged, where it is not by itself and to the table that it is given.

    Args:
      table: of which the run's own is a part, for instance without the holdout; None for the run's own.
      run, cost: one charge that several runs share, as the trials of a selection do; None for the run's own.
    """

    table: PrivateTable | None = None
    run: str | None = None
    cost: Cost | None = None


OWN = Account()


@dataclass(frozen=True)
class Uncharged:
    """A run of which nothing leaves: a game that an audit plays with tables of its own making.

    Args:
      reason: why nothing leaves.
    """

    reason: str

    def __post_init__(self):
        if not self.reason.strip():
            raise ValueError("Expected a reason why nothing of the run leaves.")


def charge_lifetime(
    table: PrivateTable, privacy: PrivacyConfig, plan: Plan, book: RunFolder, account: Account
) -> tuple[Spent, RunFolder]:
    """Charges a run, once, however often it is resumed; returns what was spent on its table, and the record.

    Formal guarantee: with `privacy.lifetime_epsilon`, all private runs charged to the table's account in
    this store compose to at most that, this one included, or it is refused before a read.

    Raises:
      BudgetExceeded: the lifetime budget does not allow it; nothing was read.
      GuaranteeVoid: the store lost what this run, or one beside it, was charged.
    """
    from dpsynth.privacy.many_runs.costs import run_cost
    from dpsynth.privacy.many_runs.dataset_ledger import DatasetLedger

    ledger = DatasetLedger(privacy.dataset_ledger)
    book = book.noted(run=account.run or book.run)
    witnesses = book.charged_nearby(ledger.path)
    epsilon = plan.guarantee.epsilon if plan.private else None
    spent = ledger.charge(
        ledger.key(account.table or table, privacy.dataset),
        book.run,
        account.cost or run_cost([event.event for event in plan.events], epsilon, privacy.delta),
        delta=privacy.lifetime_delta or privacy.delta,
        lifetime_epsilon=privacy.lifetime_epsilon,
        witnesses=witnesses,
    )
    return spent, book.noted(store=str(ledger.path))
