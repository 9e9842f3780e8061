"""A report before it has a format: sections of texts, tables and pictures, each marked for who may see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Text:
    """One paragraph."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows and columns of text; `shown_of` is how many rows there were where some are left out."""

    frame: pd.DataFrame
    caption: str = ""
    shown_of: int | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG; `alt` says in words what it shows."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Interactive:
    """A Plotly figure for the page; print gets `still` in its place."""

    figure: object
    still: Picture


Block = Text | Table | Picture | Interactive


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report.

    Args:
      visibility: `public` or `released` may leave with the release; `internal` touched real rows without
        paying and is marked in every format.
    """

    title: str
    blocks: Sequence[Block]
    visibility: str = "internal"

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True, kw_only=True)
class Document:
    """A report.

    Args:
      claim: what is promised, in one line.
      stamp: NON-PRIVATE or VOID, printed large; None where the claim stands.
    """

    title: str
    claim: str
    stamp: str | None = None
    sections: Sequence[Section] = field(default_factory=tuple)

    @property
    def internal(self) -> bool:
        """Whether any part must stay with those who hold the data."""
        return any(section.visibility == "internal" for section in self.sections)


def limited(frame: pd.DataFrame, most: int, caption: str = "") -> Table:
    """Returns a table of the first `most` rows that says how many there were."""
    shown_of = len(frame) if len(frame) > most else None
    return Table(frame=frame.head(most), caption=caption, shown_of=shown_of)


def cell(value: object) -> str:
    """Returns a table's cell as text: four significant digits, nothing for missing, yes and no."""
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == int(value) and abs(value) < 1e6:
            return f"{value:.0f}"
        return f"{value:.4g}"
    return str(value)
