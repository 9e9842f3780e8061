from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from dpsynth.audit.pictures import sweep_picture
from dpsynth.data.schema import Categorical, Continuous, Integer, Schema
from dpsynth.errors import InvalidInput
from dpsynth.evaluation import plots
from dpsynth.evaluation.metrics import evaluate
from dpsynth.evaluation.types import EvaluationConfig
from dpsynth.report.document import Document, Section, Table, Text, cell
from dpsynth.report.frontier import COLUMNS
from dpsynth.report.html import render_html
from dpsynth.report.material import ReportConfig
from dpsynth.report.page import release_report, sweep_report, write
from dpsynth.report.pdf import render_pdf

SMALL = ReportConfig(max_columns=3, max_pairs=1, max_heat_columns=6, max_phik_columns=3)
AUDIT = {
    "kind": "release",
    "verdict": "INCONCLUSIVE",
    "reason": "The test is too weak.",
    "claim": {"epsilon": 1.0, "delta": 1e-5},
    "p_value": 0.4,
    "power": None,
    "summary": {"epsilon_lower": 0.1},
    "findings": [{"attack": "nearest", "stratum": "all", "statistics": {"auc": 0.51}}],
    "leaks": [{"where": "logs", "rule": "No counts.", "detail": ""}],
}


def titles(document: Document) -> list[str]:
    return [section.title for section in document.sections]


@pytest.fixture(scope="module")
def report(make_release, make_table, schema, tmp_path_factory):
    """A complete report on tables with missing values."""
    train, holdout, synthetic = make_table(300, 1), make_table(120, 2), make_table(250, 3)
    folder = make_release(tmp_path_factory.mktemp("made") / "release", synthetic, schema)
    config = EvaluationConfig(num_bootstraps=20, models=("logistic",))
    found = evaluate(synthetic, train, holdout, schema, config, 0)
    drawn = {"theory and evidence": plots.png(plots.new_axes(2, 1)[0])}
    rows = {"train": train, "holdout": holdout, "evaluation": found}
    return release_report(folder, **rows, audits=[AUDIT], audit_pictures=drawn, config=SMALL)


def test_complete_report_has_every_part_and_marks_what_is_internal(report):
    assert titles(report) == [
        "Claim",
        "Ledger and budget",
        "Utility",
        "Fidelity",
        "Columns",
        "Pairs of columns",
        "Correlation",
        "Nearest training rows",
        "Audit",
        "Schema",
    ]
    internal = [section.title for section in report.sections if section.visibility == "internal"]
    assert internal == titles(report)[2:9]
    page = render_html(report)
    assert page.count('class="tag internal">internal</span></h2>') == len(internal)
    assert "do not pass this report on" in page


def test_page_needs_nothing_else_and_the_pdf_is_one(report, tmp_path):
    page, printed = write(report, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=[\"'](?!data:)", text)
    assert text.count("data:image/png;base64,") >= 8
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type /Page\b", content)) >= 3


def test_limits_are_said_where_they_cut(report):
    page = render_html(report)
    assert "3 of 6 columns are shown" in page
    assert "The 1 of 15 pairs" in page
    assert "3 of 6, the furthest" in page


def test_audit_shows_verdict_findings_and_leaks(report):
    page = render_html(report)
    for text in (
        "INCONCLUSIVE",
        "The test is too weak.",
        "nearest",
        "No counts.",
        'alt="theory and evidence"',
    ):
        assert text in page


def test_report_of_a_release_alone_holds_released_facts_only(make_release, make_table, schema, tmp_path):
    document = release_report(make_release(tmp_path / "release", make_table(80, 1), schema), config=SMALL)
    assert not document.internal
    assert {section.visibility for section in document.sections} == {"released", "public"}
    assert titles(document) == [
        "Claim",
        "Ledger and budget",
        "Columns",
        "Pairs of columns",
        "Correlation",
        "Schema",
    ]
    assert "do not pass this report on" not in render_html(document)


@pytest.mark.parametrize("column", [Continuous(name="x", min=0, max=1), Categorical(name="x", values=("a",))])
def test_one_column_makes_a_report(make_release, tmp_path, column):
    schema = Schema(columns=(column,))
    values = np.linspace(0, 1, 40) if isinstance(column, Continuous) else ["a"] * 40
    table = pd.DataFrame({"x": values})
    folder = make_release(tmp_path / "release", table, schema)
    found = evaluate(table, table, table, schema, EvaluationConfig(num_bootstraps=0, extended=True), 0)
    document = release_report(folder, train=table, holdout=table, evaluation=found)
    assert "Columns" in titles(document) and "Correlation" not in titles(document)
    assert write(document, tmp_path / "out")[1].stat().st_size > 1000


def test_a_hundred_columns_stay_within_the_limits(make_release, tmp_path):
    rng = np.random.default_rng(0)
    schema = Schema(
        columns=tuple(
            Integer(name=f"c{i}", min=0, max=9) if i % 2 else Continuous(name=f"c{i}", min=-9, max=9)
            for i in range(100)
        )
    )
    tables = [pd.DataFrame({c.name: rng.integers(0, 10, 60) * 1.0 for c in schema.columns}) for _ in range(3)]
    folder = make_release(tmp_path / "release", tables[0], schema)
    document = release_report(folder, train=tables[1], holdout=tables[2], config=SMALL)
    page, printed = write(document, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "3 of 100 columns are shown" in text and "6 of 100, the furthest" in text
    assert "(60 of 100 shown)" in text  # the schema's table
    assert text.count("data:image/png;base64,") < 15
    assert len(re.findall(rb"/Type /Page\b", printed.read_bytes())) < 15


def test_columns_that_are_missing_or_constant_throughout_make_a_report(
    make_release, make_table, schema, tmp_path
):
    tables = [make_table(40, seed).assign(income=np.nan, city=None, age=30) for seed in range(3)]
    folder = make_release(tmp_path / "release", tables[0], schema)
    document = release_report(folder, train=tables[1], holdout=tables[2], config=SMALL)
    assert "Correlation" in titles(document)
    write(document, tmp_path / "out")


def test_names_and_values_are_escaped(make_release, tmp_path):
    name = "<script>alert(1)</script>"
    schema = Schema(columns=(Categorical(name=name, values=("<b>x</b>", "y")),))
    folder = make_release(tmp_path / "release", pd.DataFrame({name: ["<b>x</b>", "y"]}), schema)
    page = render_html(release_report(folder))
    assert "<script>alert" not in page and "<b>x" not in page and "&lt;script&gt;alert" in page


def test_a_release_without_privacy_is_stamped_in_both_formats(make_release, tmp_path):
    schema = Schema(columns=(Integer(name="x", min=0, max=9),))
    folder = make_release(tmp_path / "release", pd.DataFrame({"x": [1, 2]}), schema, private=False)
    document = release_report(folder)
    assert 'class="stamp">NON-PRIVATE' in render_html(document)
    plain = render_pdf(Document(title="t", claim="c"))
    assert len(render_pdf(Document(title="t", claim="c", stamp=document.stamp))) > len(plain)


def test_sweep_report_has_costs_frontier_runs_and_failures(tmp_path):
    rows = [
        (g, e, s, m, 0.8 + 0.01 * s, np.nan, np.nan)
        for g in ("tvae", "independent")
        for e in (1.0, 4.0)
        for s in (0, 1, 2)
        for m in ("tstr_auc_boosting", "tv_2way")
    ]
    document = sweep_report(
        pd.DataFrame(rows, columns=COLUMNS),
        costs={"all runs": "ε = 12.3"},
        runs=pd.DataFrame({"run": ["a"]}),
        failed=pd.DataFrame({"run": ["b"], "error": ["no such column"]}),
        evidence=sweep_picture([{"claimed": 1.0, "audited": 0.5, "verdict": "CONSISTENT", "generator": "g"}]),
    )
    parts = ["What the sweep costs", "Frontier", "Theory and evidence", "Runs", "Failed runs"]
    assert titles(document) == parts
    page, printed = write(document, tmp_path, "sweep")
    text = page.read_text(encoding="utf-8")
    assert "ε = 12.3" in text and "no such column" in text
    assert text.count("Plotly.newPlot(") - text.count("Plotly.newPlot()") >= 1
    assert "<script src" not in text
    assert printed.read_bytes().startswith(b"%PDF-")


def test_a_sweep_without_finished_runs_says_so(tmp_path):
    document = sweep_report(pd.DataFrame(columns=COLUMNS), failed=pd.DataFrame({"error": ["x"]}))
    assert "No finished run" in render_html(document)
    write(document, tmp_path)


def test_cells_are_short_text():
    assert [cell(v) for v in (None, float("nan"), True, 3.0, 0.123456, 1234567.0, "a")] == [
        "",
        "",
        "yes",
        "3",
        "0.1235",
        "1.235e+06",
        "a",
    ]


def test_wide_tables_lose_columns_in_print_and_long_words_fit():
    frame = pd.DataFrame([["x" * 300] * 30], columns=[f"column {i}" for i in range(30)])
    section = Section(title="Wide", blocks=[Text(text="y" * 400), Table(frame=frame)])
    assert render_pdf(Document(title="t", claim="c", sections=[section])).startswith(b"%PDF-")


def test_limits_below_one_are_refused_all_at_once():
    with pytest.raises(InvalidInput) as error:
        ReportConfig(max_columns=0, max_pairs=0)
    assert "report.max_columns" in str(error.value) and "report.max_pairs" in str(error.value)
