"""An audit as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from dpsynth.audit.plots import figures
from dpsynth.audit.types import AuditResult, Claim
from dpsynth.data.wording import up

_COLOURS = {"VIOLATION": "#b91c1c", "CONSISTENT": "#15803d", "INCONCLUSIVE": "#b45309", "INVALID": "#6b7280"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933 }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
.verdict { color: white; padding: .6rem 1rem; border-radius: .4rem; font-size: 1.4rem }
.internal { color: #b91c1c; font-weight: 600 }
table { border-collapse: collapse; font-size: .85rem }
td, th { padding: .25rem .6rem; border-bottom: 1px solid #ddd }
td { text-align: right } td:first-child, th { text-align: left } .wide { overflow-x: auto }
"""
_COLUMNS = {
    "auc": "AUC",
    "auc_lo": "low",
    "auc_hi": "high",
    "auc_ceiling": "ceiling",
    "tpr_at_fpr_1pct": "TPR at 1 %",
    "tpr_at_fpr_0p1pct": "TPR at 0.1 %",
    "perm_p": "p, no trace",
    "claim_p": "p, claim",
    "eps_lo_onerun": "eps >= (one run)",
    "eps_lo_onerun_fdp": "eps >= (f-DP)",
    "eps_lo_auc": "eps >= (AUC)",
    "eps_lo_cp": "eps >= (CP)",
    "eps_lo_gdp": "eps >= (GDP)",
    "eps_post_q05": "eps, 5 % belief",
    "eps_post_q95": "95 %",
    "eps_max_auditable": "eps auditable",
}


def _number(value: object) -> str:
    if isinstance(value, float):
        return "unresolvable" if math.isnan(value) else f"{value:.3g}"
    return html.escape(str(value))


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td>{_number(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _section(result: AuditResult) -> str:
    parts = [f"<h2>{html.escape(result.kind)}</h2>"]
    colour = _COLOURS[result.verdict.value]
    parts.append(f'<p class="verdict" style="background:{colour}">{result.verdict.value}</p>')
    parts.append(f"<p>{html.escape(result.reason)}</p>")
    if not math.isnan(result.power):
        parts.append(f"<p>Power against “{html.escape(result.alternative)}”: {result.power:.2f}.</p>")
    if result.leaks:
        parts.append(_table(("where", "rule", "detail"), [(x.where, x.rule, x.detail) for x in result.leaks]))
    if result.findings:
        shown = [k for k in _COLUMNS if any(k in f.statistics for f in result.findings)]
        rows = [
            (f"{f.attack} · {f.stratum}", *(f.statistics.get(k, "") for k in shown)) for f in result.findings
        ]
        parts.append(_table(("attack", *(_COLUMNS[k] for k in shown)), rows))
    parts += [
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
        for figure in figures(result)
    ]
    parts.append(_table(("figure", "value"), [(k, v) for k, v in result.summary.items()]))
    parts.append(_table(("setting", "value"), [(k, v) for k, v in result.params.items()]))
    return "\n".join(parts)


def render(results: Sequence[AuditResult], title: str = "Audit", claim: Claim | None = None) -> str:
    """Returns the page; marked internal, for an audit is a function of private data.

    Args:
      claim: of the release; that of the first result when None (a step may be audited under one of its own).
    """
    from plotly.offline import get_plotlyjs

    claim = claim or results[0].claim
    stated = "none" if claim.epsilon is None else f"epsilon={up(claim.epsilon)}, delta={up(claim.delta)}"
    body = "\n".join(_section(result) for result in results)
    script = f"<script>{get_plotlyjs()}</script>" if any(r.findings for r in results) else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{script}<h1>{html.escape(title)}</h1>"
        f"<p>Claim: {html.escape(stated)}. An audit never shows that a release is private; "
        "it shows what would have been caught.</p>"
        f'<p class="internal">INTERNAL: made from private rows. Do not publish.</p>{body}</html>'
    )


def write(
    results: Sequence[AuditResult], path: str | Path, title: str = "Audit", claim: Claim | None = None
) -> None:
    """Writes `render` to a file."""
    Path(path).write_text(render(results, title, claim), encoding="utf-8")
