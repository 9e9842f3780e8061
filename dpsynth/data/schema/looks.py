"""What the cells of a text file look like: the kind of column that a draft proposes for them.

A look is a rule that all cells of a column keep. No bound and no list of values is taken from the cells: the
words of a flag and the formats of dates come from the lists here.
"""

from __future__ import annotations

import re

import pandas as pd

from dpsynth.data.schema.columns import (
    MAX_INTEGER,
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Integer,
)
from dpsynth.data.schema.parsing import FLAGS, moments_of

# What text files write where a value is missing, unless the schema lists other texts.
MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>")

_WHOLE = r"-?(?:0|[1-9][0-9]*)"
_PADDED = r"[-+]?0[0-9]+(?:\.0*)?|\+[0-9]+"
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_DATE, _OFFSET = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"(?:Z|[-+][0-9]{2}:?[0-9]{2})"
_DAY = r"(?:18|19|20|21)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_DATES = {
    _DAY: "%Y%m%d",
    _DATE: "%Y-%m-%d",
    _DATE.replace("-", "/"): "%Y/%m/%d",
    r"[0-9]{2}\.[0-9]{2}\.[0-9]{4}": "%d.%m.%Y",
    _CLOCK: "%H:%M",
    _CLOCK + ":[0-5][0-9]": "%H:%M:%S",
}
_DATES |= {
    _DATE + sign + pattern + more: f"%Y-%m-%d{sign}{style}{zone}"
    for sign in (" ", "T")
    for pattern, style in ((_CLOCK, "%H:%M"), (_CLOCK + ":[0-5][0-9]", "%H:%M:%S"))
    for more, zone in (("", ""), (_OFFSET, "%z"))
}
_WHOLE_DAY = {"%H:%M": ("00:00", "23:59"), "%H:%M:%S": ("00:00:00", "23:59:59")}  # all that there are


def drafted(name: str, cells: pd.Series) -> Column:
    """Proposes a kind for a column of text cells, by the first look that all of them have.

    Whole numbers are written as one writes them: a cell such as 02116 makes the column text. Blank cells make
    it nullable. Flags of 0 and 1 stay numbers, words such as Y and N stay words.
    """
    words = cells.str.strip()
    given = words[~words.isin(MISSING_TEXTS)].drop_duplicates()
    extra = {"name": name} | ({"nullable": True} if len(given) and words.isin(MISSING_TEXTS).any() else {})
    if given.empty:
        return Categorical(name=name)
    for pair in FLAGS:
        if set(given.str.lower()) <= set(pair) and given.str.lower().nunique() == given.nunique():
            return _flag(pair, given, extra)
    if _all(given, rf"{_WHOLE}(?:\.0)?" if "nullable" in extra else _WHOLE):
        return Categorical(**extra) if _too_long(given) else _dates(given, extra) or Integer(**extra)
    if _all(given, _NUMBER):
        padded = given.str.fullmatch(_PADDED).any()
        return Categorical(**extra) if padded or _too_long(given) else Continuous(**extra)
    return _dates(given, extra) or Categorical(**extra)


def _flag(pair: tuple[str, str], given: pd.Series, extra: dict) -> Column:
    if pair == ("false", "true"):
        return Boolean(**extra)
    if pair[0] in ("0", "0.0"):
        both = given.nunique() == 2  # zeros alone may be any number
        return Boolean(dtype="int64", **extra) if both else Integer(**extra)
    shape = next((c for c in (str.upper, str.capitalize, str.lower) if (given == given.map(c)).all()), None)
    if shape is None:
        return Categorical(**extra)
    return Categorical(values=tuple(shape(word) for word in pair), **extra)


def _dates(given: pd.Series, extra: dict) -> Column | None:
    for pattern, style in _DATES.items():
        if _all(given, pattern) and moments_of(given, style).notna().all():
            low, high = _WHOLE_DAY.get(style, (None, None))
            return Datetime(format=style, min=low, max=high, **extra)
    return None


def _all(given: pd.Series, pattern: str) -> bool:
    return bool(given.str.fullmatch(re.compile(pattern)).all())


def _too_long(given: pd.Series) -> bool:
    """Says whether whole numbers have more digits than a number keeps: they name things."""
    digits = given[given.str.fullmatch(rf"{_WHOLE}(?:\.0)?")].str.replace(r"\.0$|-", "", regex=True)
    return bool((digits.str.len() > 15).any() and digits.map(int).max() > MAX_INTEGER)
