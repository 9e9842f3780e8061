"""Runs beside a run are found by their records, whatever else happens in the folders around."""

from __future__ import annotations

import os

from dpsynth.privacy.release.run_folder import RunFolder


def begun(folder, run, store):
    folder.mkdir(parents=True)
    return RunFolder(folder=folder, facts={}, table="", salt="", run=run).noted(ledger="x", store=str(store))


def test_folders_that_vanish_while_they_are_listed_hide_no_other(tmp_path, monkeypatch):
    store = tmp_path / "spent.sqlite"
    own = begun(tmp_path / "sweep" / "0", "own", store)
    begun(tmp_path / "sweep" / "1", "beside", store)
    begun(tmp_path / "other" / "0", "near", store)
    begun(tmp_path / "third" / "0", "elsewhere", tmp_path / "another.sqlite")
    (tmp_path / "gone").mkdir()
    scandir = os.scandir

    def vanishing(place="."):
        if str(place).endswith("gone"):
            raise FileNotFoundError(place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert own.charged_nearby(store) == {"own", "beside", "near"}
