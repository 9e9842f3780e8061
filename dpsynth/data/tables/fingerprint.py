"""By what a table is recognised: a digest of each of its columns as it was read, before a schema touched it.

Everything here is private: a digest of a short column can be tested against guesses. Salted ones are kept.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

_MARK = "dpsynth.columns"
_GAPS = ("", "na", "n/a", "nan", "null", "none", "nat", "<na>")
_TRUTH = {"true": "1", "false": "0"}
_DATE = r"\d{4}-\d{2}-\d{2}"
_GAP, _NUMBER, _MOMENT = np.uint64(0x9E3779B97F4A7C15), np.uint64(1), np.uint64(2)


def column_digests(frame: pd.DataFrame) -> tuple[str, ...]:
    """Returns a digest of each column's values as a multiset, sorted; those of the file where it was read.

    Neither names nor order matter, nor how a value is written: 1, 1.0, "1" and True are one value, a date is
    one whether it is text (ISO) or not, and so are all missing values. Numbers count to 24 bits.
    """
    found = frame.attrs.get(_MARK)
    if found is not None:
        return tuple(found)
    return tuple(sorted(_digest(frame.iloc[:, place]) for place in range(frame.shape[1])))


def marked(checked: pd.DataFrame, source: pd.DataFrame) -> pd.DataFrame:
    """Lets a table remember the columns of what it was made from; pandas hands that on to parts of it."""
    checked.attrs[_MARK] = column_digests(source)
    return checked


def _digest(column: pd.Series) -> str:
    try:
        codes, values = pd.factorize(column, use_na_sentinel=True)
    except TypeError:  # lists and the like, which nothing but `drop` takes
        codes, values = pd.factorize(column.astype("str"), use_na_sentinel=True)
    hashes = np.append(_hashes(pd.Series(values)), _GAP)
    counts = np.bincount(np.where(codes < 0, len(values), codes), minlength=len(hashes))
    kept, place = np.unique(hashes, return_inverse=True)
    summed = np.bincount(place, weights=counts, minlength=len(kept)).astype("<u8")
    seen = summed > 0
    return hashlib.sha256(kept[seen].astype("<u8").tobytes() + summed[seen].tobytes()).hexdigest()


def _hashes(values: pd.Series) -> np.ndarray:
    """Returns a hash of each distinct value, by what it means."""
    if values.dtype.kind == "M":
        return _moments(values)
    if pd.api.types.is_numeric_dtype(values):
        return _numbers(values.astype("float64").to_numpy())
    number = pd.to_numeric(values, errors="coerce")
    if number.notna().all():  # most columns of a text file, and ten times as fast
        return _numbers(number.to_numpy(dtype=np.float64))
    text = values.astype("str").str.strip()
    folded = text.str.casefold()
    hashes = pd.util.hash_array(folded.to_numpy(dtype=object), categorize=False)
    hashes[folded.isin(_GAPS).to_numpy()] = _GAP
    number = pd.to_numeric(folded.replace(_TRUTH), errors="coerce")
    known = number.notna().to_numpy()
    hashes[known] = _numbers(number.to_numpy(dtype=np.float64)[known])
    dates = folded.str.match(_DATE).to_numpy() & ~known
    if dates.any():
        moments = pd.to_datetime(text[dates], errors="coerce", format="ISO8601", utc=True)
        hits = np.flatnonzero(dates)[moments.notna().to_numpy()]
        hashes[hits] = _moments(moments.dropna())
    return hashes


def _moments(values: pd.Series) -> np.ndarray:
    """Dates by microseconds, which hold every year; without a zone they are those of UTC."""
    plain = values if values.dt.tz is None else values.dt.tz_convert(None)
    return _hashed(plain.astype("datetime64[us]").astype("int64").to_numpy(), _MOMENT)


def _numbers(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        bits = (values.astype(np.float32) + np.float32(0.0)).view(np.uint32)  # -0.0 is 0.0
    return _hashed(bits, _NUMBER)


def _hashed(values: np.ndarray, kind: np.uint64) -> np.ndarray:
    return pd.util.hash_array(values.astype(np.uint64) ^ (kind << np.uint64(62)))
