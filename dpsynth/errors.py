"""Errors that name the thing, the rule and the fix."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class DpsynthError(Exception):
    """Base of every error that dpsynth raises on purpose."""

    @property
    def shown(self) -> str:
        """The message for the terminal of whoever holds the data; everything else gets `str(error)`."""
        return str(self)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Args:
      where: the column, key or file at fault. Public: never a value of a private row.
      rule: the rule that is broken, with its bound.
      fix: what the user can do next.
      seen: what the table has there, such as a name that nobody declared: the first row of a file without a
        header is taken for names. For the terminal alone, never stored.
    """

    where: str
    rule: str
    fix: str
    seen: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.rule} {self.fix}"

    @property
    def shown(self) -> str:
        """The problem with what the table has there."""
        return f"{self} (In the table: {self.seen}.)" if self.seen else str(self)


class InvalidInput(DpsynthError):
    """A table, schema or configuration breaks rules; the message lists every problem found.

    Args:
      subject: what was checked, for example `schema.yaml` or `the configuration`.
      problems: all problems, in the order in which a user would fix them.
    """

    def __init__(self, subject: str, problems: Iterable[Problem]):
        self.subject = subject
        self.problems = tuple(problems)
        super().__init__(self._listed(str(problem) for problem in self.problems))

    @property
    def shown(self) -> str:
        return self._listed(problem.shown for problem in self.problems)

    def _listed(self, texts: Iterable[str]) -> str:
        count = len(self.problems)
        head = f"{self.subject} has {count} problem{'s' if count != 1 else ''}:"
        return "\n".join([head, *(f"  {i}. {text}" for i, text in enumerate(texts, 1))])


class BudgetExceeded(DpsynthError):
    """A charge does not fit in what remains of the declared budget; nothing was read."""


class GuaranteeVoid(DpsynthError):
    """Continuing would make the privacy claim false."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns advice that names what the user most likely meant, or else what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."


def described(error: BaseException) -> str:
    """Says what went wrong without quoting values: messages of other libraries may hold a private one."""
    if isinstance(error, DpsynthError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def trace(error: BaseException) -> str:
    """Returns the frames and the kind of an error, without its message."""
    return "".join([*traceback.format_tb(error.__traceback__), described(error), "\n"])
