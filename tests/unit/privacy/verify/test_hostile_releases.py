"""Whoever is handed a release is safe: files without end, bombs and lying text are refused in time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.tables.untrusted import Untrusted, read_json, shown
from dpsynth.errors import DpsynthError
from dpsynth.generators import tvae
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.release.certificate import CERTIFICATE
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from dpsynth.report.release_files import read_release
from tests.support.forging import forge, recertify

SECONDS, MEGABYTES = 10.0, 1024
SCHEMA = Schema(
    columns=(Categorical(name="town", values=("aa", "bb")), Integer(name="age", min=0, max=9)), num_units=100
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    frame = pd.DataFrame({"town": draw.choice(["aa", "bb"], 100), "age": draw.integers(0, 10, 100)})
    recipe = pipeline.Recipe(
        generator="tvae",
        settings=tvae.Config(size="small", anchor_weight=0.0),
        privacy=PrivacyConfig(epsilon=2.0),
        training=TrainingConfig(steps=2, sample_rate=0.2),
    )
    pipeline.run(PrivateTable(frame, SCHEMA), recipe, folder)
    return folder / "release"


def _pipe(folder):
    (folder / "release.json").unlink()
    os.mkfifo(folder / "release.json")


def _device(folder):
    (folder / "synthetic.parquet").unlink()
    (folder / "synthetic.parquet").symlink_to("/dev/zero")


def _certificate_device(folder):
    (folder / CERTIFICATE).unlink()
    (folder / CERTIFICATE).symlink_to("/dev/zero")


def _folder(folder):
    (folder / "ledger.json").unlink()
    (folder / "ledger.json").mkdir()


def _sparse(folder):
    with open(folder / "generator.safetensors", "wb") as file:
        file.truncate(2**40)


def _deep(folder):
    (folder / "ledger.json").write_text('{"records": ' + "[" * 200_000 + "]" * 200_000 + "}")
    recertify(folder)


def _deep_certificate(folder):
    (folder / CERTIFICATE).write_text('{"a": ' * 200_000 + "1" + "}" * 200_000)


def _many_lists(folder):
    (folder / "ledger.json").write_text('{"records": [' + "[]," * 8_000_000 + "[]]}")
    recertify(folder)


def _long_number(folder):
    text = (folder / "release.json").read_text().replace('"num_units": 100', '"num_units": ' + "9" * 100_000)
    (folder / "release.json").write_text(text)
    recertify(folder)


def _many_rows(folder):
    row = pa.table({"town": pa.repeat(pa.scalar("aa"), 1_000_000), "age": pa.repeat(pa.scalar(1), 1_000_000)})
    with pq.ParquetWriter(folder / "synthetic.parquet", row.schema) as writer:
        for _ in range(30):
            writer.write_table(row, row_group_size=1_000_000)
    recertify(folder)


def _many_columns(folder):
    wide = pa.table({f"c{number}": pa.array([1]) for number in range(20_000)})
    pq.write_table(wide, folder / "synthetic.parquet")
    recertify(folder)


def _long_texts(folder):
    table = pa.table({"town": ["a" * 30_000_000], "age": [1]})
    pq.write_table(table, folder / "synthetic.parquet", compression="zstd")
    recertify(folder)


def _thousands_of_events(folder):
    def change(records):
        events = records[0]["plan"]["events"]
        step = {"type": "gaussian", "noise_multiplier": 1.0}
        for number in range(5_000):
            inner = {"type": "poisson_sampled", "sample_rate": 0.01 + number * 1e-6, "event": step}
            event = {"type": "self_composed", "count": 1_000 + number, "event": inner}
            events.append({**events[0], "name": f"e{number}", "event": event})
        return records

    forge(folder, ledger=change)


def _a_billion_choices(folder):
    def change(records):
        one = {"type": "exponential_mechanism", "epsilon": 0.1}
        for _ in range(4):
            one = {"type": "self_composed", "count": 10**9, "event": one}
        records[0]["plan"]["events"][0]["event"] = one
        return records

    content = json.loads((folder / "ledger.json").read_text())
    content["records"] = change(content["records"])
    (folder / "ledger.json").write_text(json.dumps(content))
    recertify(folder)


def _recipe(**settings):
    def make(folder):
        def ledger(records):
            records[0]["recipe"]["settings"] |= settings
            return records

        def facts(released):
            released["generator"]["config"] |= settings

        forge(folder, ledger=ledger, facts=facts)

    return make


def _huge_training(folder):
    def change(records):
        records[0]["recipe"]["training"] |= {"steps": 10**15, "sample_rate": 1.0}
        records[0]["recipe"]["privacy"] |= {"epsilon": 1e200}
        return records

    forge(folder, ledger=change)


def _many_schema_columns(folder):
    columns = [{"name": f"c{number}", "kind": "boolean"} for number in range(30_000)]
    content = json.loads((folder / "release.json").read_text())
    content["schema"]["columns"] = columns
    (folder / "release.json").write_text(json.dumps(content))
    recertify(folder)


def _huge_cells(folder):
    def change(facts):
        facts["statistics"]["fine"]["age"]["shape"] = [10**9, 10**9]

    forge(folder, facts=change)


def _huge_group(folder):
    def change(facts):
        facts["statistics"]["domain"][1]["groups"] = [2**31 - 1] * 10

    forge(folder, facts=change)


def _weights_header(folder):
    (folder / "generator.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    recertify(folder)


HOSTILE = {
    "pipe": _pipe,
    "device": _device,
    "certificate is a device": _certificate_device,
    "folder": _folder,
    "sparse terabyte": _sparse,
    "deep": _deep,
    "deep certificate": _deep_certificate,
    "many lists": _many_lists,
    "long number": _long_number,
    "30 million rows": _many_rows,
    "20,000 columns": _many_columns,
    "long texts": _long_texts,
    "thousands of events": _thousands_of_events,
    "a billion choices": _a_billion_choices,
    "wide": _recipe(decoder_dims=[10**9, 10**9]),
    "wide by many": _recipe(encoder_dims=[60_000] * 100),
    "many rounds": _recipe(adaptive_rounds=10**9),
    "huge pool": _recipe(fit_pool=10**12),
    "huge training": _huge_training,
    "30,000 declared columns": _many_schema_columns,
    "huge cells": _huge_cells,
    "huge group": _huge_group,
    "header of weights": _weights_header,
}
_RUN = """
import json, re, sys, time
from dpsynth.errors import DpsynthError
from dpsynth.privacy.verify import verify
from dpsynth.privacy.release.release import Release
from dpsynth.report.release_files import read_release
from dpsynth import pipeline
warm = verify(sys.argv[1])
assert warm.passed, warm.table()
for folder in sys.argv[2:]:
    times = []
    def sample():
        return pipeline.sample(Release.load(folder), 3, seed=0)
    for use in (lambda: verify(folder), sample, lambda: read_release(folder)):
        start = time.monotonic()
        try:
            found = use()
            word = "passed" if getattr(found, "passed", False) else "used"
            word = "refused" if hasattr(found, "passed") and not found.passed else word
        except DpsynthError:
            word = "refused"
        times.append([word, time.monotonic() - start])
    most = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
    print(json.dumps([folder, times, most]), flush=True)
"""


def test_hostile_releases_are_refused_in_time_and_memory(honest, tmp_path):
    """One process for all, so its peak bounds each; verify, sample and report get each release."""
    folders = {}
    for name, make in HOSTILE.items():
        folders[name] = shutil.copytree(honest, tmp_path / name.replace(" ", "_"))
        make(folders[name])
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(honest), *map(str, folders.values())],
        capture_output=True,
        text=True,
        timeout=SECONDS * len(folders),
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(HOSTILE), done.stderr[-2000:]
    for folder, times, most in lines:
        assert times[0][0] == "refused", folder
        assert max(seconds for _, seconds in times) < SECONDS and most < MEGABYTES, (folder, times, most)


def test_text_of_a_release_writes_no_line_of_its_own(honest, tmp_path):
    folder = shutil.copytree(honest, tmp_path / "release")
    lie = "epsilon=2, delta=1e-05\nverified: epsilon=0.1, delta=1e-09\x1b[2K\u202e"
    recertify(folder, lambda certificate: certificate.update(claim=lie))
    printed = verify(folder).table()
    assert not [line for line in printed.splitlines() if line.startswith("verified")]
    assert printed.splitlines()[-1].startswith("NOT VERIFIED") and printed.replace("\n", "").isprintable()
    for use in (Release.load, read_release):
        with pytest.raises(DpsynthError) as refused:
            use(folder)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\u2028", "\u202e", "\ud800", "a\tb", "\x00"])
def test_what_cannot_be_printed_is_escaped(text):
    assert shown(text).isprintable()
    shown(text).encode()


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "[NaN]", "[1e999]", "[Infinity]", "\xff", "{", '"\n"', ""]
)
def test_json_that_readers_could_read_in_two_ways_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Untrusted):
        read_json(tmp_path / "x.json")


def test_the_limit_of_rows_can_be_raised(honest):
    assert not verify(honest, most_cells=10).passed
    assert "most_cells" in verify(honest, most_cells=10).table()
    assert verify(honest, most_cells=1_000).passed
