"""Errors that name the thing, the rule and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class DpsynthError(Exception):
    """Base of every error that dpsynth raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Args:
      where: the column, key or file at fault. Public: never a value of a private row.
      rule: the rule that is broken, with its bound.
      fix: what the user can do next.
    """

    where: str
    rule: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule} {self.fix}"


class InvalidInput(DpsynthError):
    """A table, schema or configuration breaks rules; the message lists every problem found.

    Args:
      subject: what was checked, for example `schema.yaml` or `the configuration`.
      problems: all problems, in the order in which a user would fix them.
    """

    def __init__(self, subject: str, problems: Iterable[Problem]):
        self.subject = subject
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{subject} has {count} problem{'s' if count != 1 else ''}:"
        super().__init__("\n".join([head, *(f"  {i}. {p}" for i, p in enumerate(self.problems, 1))]))


class BudgetExceeded(DpsynthError):
    """A charge does not fit in what remains of the declared budget; nothing was read."""


class GuaranteeVoid(DpsynthError):
    """Continuing would make the privacy claim false."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns advice that names what the user most likely meant, or else what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."
