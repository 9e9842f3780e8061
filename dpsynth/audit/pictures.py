"""Still pictures of theory and evidence, small enough to keep with every run."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpsynth.audit.types import AuditResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, CLAIM, SEEN = "#1f2933", "#d97706", "#2563eb"
COLOURS = {"VIOLATION": "#b91c1c", "CONSISTENT": "#15803d", "INCONCLUSIVE": "#b45309", "INVALID": "#6b7280"}


def theory_and_evidence(result: AuditResult) -> bytes:
    """Draws, as PNG, epsilon claimed beside epsilon audited, and the attack's ROC below what is allowed."""
    from matplotlib.figure import Figure

    rocs = result.curves.get("roc") or {}
    figure = Figure(figsize=(9.0, 3.8) if rocs else (4.6, 3.8), layout="constrained")
    axes = figure.subplots(1, 2 if rocs else 1, squeeze=False)[0]
    _bars(axes[0], result)
    if rocs:
        _roc(axes[1], result)
    colour = COLOURS[result.verdict.value]
    figure.suptitle(f"{result.verdict.value} (internal)", color=colour, fontweight="bold")
    return _png(figure)


def _bars(axes: Any, result: AuditResult) -> None:
    values = [result.summary.get(key, math.nan) for key in ("eps_theory", "eps_lo_best")]
    if math.isnan(values[0]):
        axes.text(0.5, 0.5, "There is no private claim.", ha="center", va="center")
        axes.set_axis_off()
        return
    bars = axes.bar(["claimed", "audited, at least"], values, color=[CLAIM, SEEN], width=0.55)
    axes.bar_label(bars, [f"{v:.3g}" for v in values], padding=2)
    axes.set(ylabel="ε", title=f"ε at δ = {result.claim.delta:g}", ylim=(0, 1.15 * max(values)))
    axes.spines[["top", "right"]].set_visible(False)


def _roc(axes: Any, result: AuditResult) -> None:
    for name, curve in result.curves["roc"].items():
        axes.plot(curve["fpr"], curve["tpr"], color=SEEN, label=f"{name} canaries", lw=1.6)
    if allowed := result.curves.get("allowed"):
        axes.plot(allowed["fpr"], allowed["tpr"], color=CLAIM, label="allowed by the plan", lw=1.6)
        axes.fill_between(allowed["fpr"], allowed["tpr"], color=CLAIM, alpha=0.12, lw=0)
    axes.plot([0, 1], [0, 1], color=INK, ls=":", lw=1)
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title("Attack on the training step")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def sweep_picture(points: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draws, as PNG, epsilon audited against epsilon claimed, one mark per run; None without such runs.

    Args:
      points: each with `claimed`, `audited`, `verdict` and `generator`.
    """
    from matplotlib.figure import Figure

    known = [p for p in points if math.isfinite(p.get("audited", math.nan))]
    if not known:
        return None
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    ends = [min(p["claimed"] for p in known) / 1.6, max(p["claimed"] for p in known) * 1.6]
    axes.plot(ends, ends, color=INK, ls=":", lw=1, label="claimed")
    axes.fill_between(ends, ends, [10 * e for e in ends], color=CLAIM, alpha=0.12, lw=0)
    for marker, name in zip("osD^vPX*<>" * 10, sorted({p["generator"] for p in known})):
        mine = [p for p in known if p["generator"] == name]
        colours = [COLOURS[p["verdict"]] for p in mine]
        axes.scatter(
            [p["claimed"] for p in mine], [p["audited"] for p in mine], c=colours, marker=marker, label=name
        )
    low = min(ends[0], *(max(p["audited"], 1e-3) / 1.3 for p in known))
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=(low, ends[1]))
    ticks = sorted({p["claimed"] for p in known})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set(xlabel="ε claimed", ylabel="ε audited, at least", title="Theory and evidence (internal)")
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()
