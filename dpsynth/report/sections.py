"""The report's parts about the claim and the figures; each is a section, or None with nothing to say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dpsynth.evaluation import fidelity
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.types import Metric
from dpsynth.report import figures, names
from dpsynth.report.document import Picture, Section, Text, limited
from dpsynth.report.material import Material, ReportConfig, picture
from dpsynth.report.release_files import certificate_table, ledger_table, stage_shares


def claim_section(material: Material, config: ReportConfig) -> Section | None:
    """What is promised, to whom, by which accountants."""
    release = material.release
    if release is None:
        return None
    text = f"Generator {release.generator}, {len(material.synthetic)} synthetic rows, public seed "
    text += f"{release.facts.get('seed')}. One declared budget pays for everything below that touched a unit."
    if release.stamp:
        text = f"Generator {release.generator}, trained without a privacy guarantee: {release.stamp}."
    return Section(
        title="Claim",
        visibility="released",
        blocks=[Text(text=text), limited(certificate_table(release), config.max_rows)],
    )


def ledger_section(material: Material, config: ReportConfig) -> Section | None:
    """Every charged event, and how the budget was split."""
    if material.release is None:
        return None
    blocks: list = [limited(ledger_table(material.release), config.max_rows, "Events in their order")]
    shares = stage_shares(material.release.plan)
    if shares:
        note = "In units of 1 / noise multiplier², which add up when Gaussian mechanisms compose."
        alt = "Split of the budget: " + ", ".join(f"{k} {v:.1%}" for k, v in shares.items())
        blocks.append(picture(figures.shares_figure(shares), alt, note))
    return Section(title="Ledger and budget", visibility="released", blocks=blocks)


def utility_section(material: Material, config: ReportConfig) -> Section | None:
    """Scores of models fitted on synthetic rows against models fitted on real rows."""
    evaluation = material.evaluation
    if evaluation is None:
        return None
    rows = []
    for metric in evaluation.metrics:
        twin = evaluation.get(names.real_rows_name(metric.name) or "")
        if metric.name.startswith("tstr_"):
            words = names.label(metric.name).replace(" fitted on synthetic rows", "")
            rows.append(
                {"label": words, **_with_interval("synthetic", metric), **_with_interval("real", twin)}
            )
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    shown = pd.DataFrame(
        {
            "score": frame["label"],
            "fitted on synthetic": [_words(row, "synthetic") for row in rows],
            "fitted on real": [_words(row, "real") for row in rows],
        }
    )
    first = next(m for m in evaluation.metrics if m.name.startswith("tstr_"))
    blocks: list = [Text(text=f"Computed on: {first.computed_on}.")]
    drawn = frame.dropna(subset=["synthetic"])
    if len(drawn):
        alt = "Scores of models fitted on synthetic and on real rows"
        blocks.append(picture(figures.scores_figure(drawn), alt))
    return Section(title="Utility", blocks=[*blocks, limited(shown, config.max_rows)])


def _with_interval(key: str, metric: Metric | None) -> dict[str, float]:
    if metric is None:
        return {key: np.nan, f"{key}_lower": np.nan, f"{key}_upper": np.nan}
    lower = metric.value if metric.lower is None else metric.lower
    upper = metric.value if metric.upper is None else metric.upper
    return {key: metric.value, f"{key}_lower": lower, f"{key}_upper": upper}


def _words(row: Mapping[str, float], key: str) -> str:
    if not np.isfinite(row[key]):
        return "not computed"
    if row[f"{key}_lower"] == row[f"{key}_upper"]:
        return f"{row[key]:.3f}"
    return f"{row[key]:.3f} [{row[f'{key}_lower']:.3f}, {row[f'{key}_upper']:.3f}]"


def fidelity_section(material: Material, config: ReportConfig) -> Section | None:
    """Distances between marginals, and which columns are furthest off."""
    blocks: list = []
    if material.evaluation is not None:
        rows = []
        for metric in material.evaluation.metrics:
            if metric.name.startswith(("tstr_", "trtr_", "real_")):
                continue
            if metric.name.endswith(("_holdout", "_baseline")):
                continue
            twin = material.evaluation.get(names.real_rows_name(metric.name) or "")
            reached = names.real_rows_value(metric.name) if twin is None else twin.value
            rows.append(
                {
                    "figure": names.label(metric.name),
                    "synthetic rows": metric.value,
                    "real rows reach": reached,
                    "computed on": metric.computed_on,
                }
            )
        if rows:
            blocks.append(limited(pd.DataFrame(rows), config.max_rows))
    if material.real is not None and len(material.schema.modelled):
        binning = make_binning(material.schema, material.real)
        distances = fidelity.column_distances(material.synthetic, material.real, binning)
        baseline = None
        if material.train is not None and material.holdout is not None and len(material.holdout):
            baseline = fidelity.column_distances(material.holdout, material.train, binning)
        shown = distances.head(config.max_columns)
        words = f"total variation from {material.real_name}"
        left = f" ({len(shown)} of {len(distances)} columns)" if len(shown) < len(distances) else ""
        alt = f"Total variation of each column, the worst is {shown.index[0]}"
        figure = figures.ranking_figure(shown, baseline, words)
        blocks.append(picture(figure, alt, f"The furthest columns{left}."))
    return Section(title="Fidelity", blocks=blocks) if blocks else None


def audit_section(material: Material, config: ReportConfig) -> Section | None:
    """What the attacks found."""
    blocks: list = []
    for audit in material.audits:
        claim = audit.get("claim") or {}
        text = f"{str(audit['kind']).capitalize()} audit: {audit['verdict']}. {audit.get('reason', '')}"
        blocks.append(Text(text=text.strip()))
        rows = [
            ("claimed ε", claim.get("epsilon")),
            ("claimed δ", claim.get("delta")),
            ("p-value", audit.get("p_value")),
            ("power", audit.get("power")),
            ("against", audit.get("alternative")),
            *((key.replace("_", " "), value) for key, value in (audit.get("summary") or {}).items()),
        ]
        known = [(key, value) for key, value in rows if value not in (None, "")]
        blocks.append(limited(pd.DataFrame(known, columns=["figure", "value"]), config.max_rows))
        for key in ("findings", "leaks"):
            listed = [
                {**{k: v for k, v in item.items() if k != "statistics"}, **(item.get("statistics") or {})}
                for item in audit.get(key) or ()
            ]
            if listed:
                blocks.append(limited(pd.DataFrame(listed), config.max_rows, key.capitalize()))
    blocks += [Picture(png=content, alt=words) for words, content in material.audit_pictures.items()]
    return Section(title="Audit", blocks=blocks) if blocks else None


def schema_section(material: Material, config: ReportConfig) -> Section | None:
    """The declared columns."""
    rows = []
    for column in material.schema.columns:
        facts = column.to_dict()
        rest = {k: v for k, v in facts.items() if k not in ("name", "kind", "nullable")}
        if "values" in rest:
            rest["values"] = f"{len(rest['values'])} declared"
        rows.append(
            {
                "column": column.name,
                "kind": facts["kind"],
                "nullable": column.nullable,
                "declared": ", ".join(f"{k} {v}" for k, v in rest.items()),
                "target": column.name == material.schema.target,
            }
        )
    blocks = [limited(pd.DataFrame(rows), config.max_rows, f"Digest {material.schema.digest[:16]}…")]
    return Section(title="Schema", visibility="public", blocks=blocks)
