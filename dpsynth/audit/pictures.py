"""Still pictures of theory and evidence, small enough to keep with every run."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpsynth.audit.types import AuditResult
from dpsynth.audit.units import ESTIMATORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, CLAIM, SEEN, CEILING = "#1f2933", "#d97706", "#2563eb", "#6d28d9"
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
    """Draws `sweep_figure` as PNG; None where there is none."""
    figure = sweep_figure(points)
    return None if figure is None else _png(figure)


def sweep_figure(points: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draws theory against evidence: epsilon of the claim against what the audits show of it.

    The first panel holds whole runs: the noise seen in everything they bought, through the accountant. The
    others, one per estimator, hold their training alone: its epsilon against the bound, and the most that the
    estimator could have shown. One mark per run; below the dotted line all is well.
    Edge cases: None where no run was audited; a bound of 0 lies on the axis.

    Args:
      points: each with `claimed`, `audited`, `verdict` and `generator`; `bounds` by estimator as `units.kept`
        has them.
    """
    from matplotlib.figure import Figure

    known = [p for p in points if math.isfinite(p.get("audited", math.nan))]
    if not known:
        return None
    panels = [("whole run: noise seen", [(p, {"theory": p["claimed"], "lo": p["audited"]}) for p in known])]
    for key, estimator in ESTIMATORS.items():
        marks = [(p, p["bounds"][key]) for p in known if key in (p.get("bounds") or {})]
        panels += [(f"training: {estimator.label}", marks)] if marks else []
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(1.6 + 3.1 * columns, 1.3 + 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    markers = dict(zip(sorted({p["generator"] for p in known}), "osD^vPX*<>" * 10))
    ranges = [_ends(panels[0][1]), _ends([mark for _, marks in panels[1:] for mark in marks])]
    for number, (axes, (title, marks)) in enumerate(zip(grid, panels)):
        _theory_against(axes, marks, ranges[min(number, 1)], markers)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("ε claimed" if number == 0 else "ε claimed, of the training")
        axes.set_ylabel("ε shown, at least" if number % columns == 0 else "")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle("Theory and evidence (internal)", fontweight="bold", fontsize=11)
    _sweep_legend(figure, markers, known)
    return figure


def _ends(marks: Sequence[tuple[Mapping, Mapping]]) -> tuple[float, float, float]:
    """Returns (least claim, largest claim, least bound to show), with room around them."""
    if not marks:
        return (0.1, 1.0, 0.01)
    theory = [x["theory"] for _, x in marks]
    shown = [x["lo"] for _, x in marks if x["lo"] > 1e-3 * min(theory)]
    return min(theory) / 1.6, max(theory) * 1.6, min([min(theory) / 2, *shown]) / 1.6


def _theory_against(axes: Any, marks, limits: tuple[float, float, float], markers: Mapping[str, str]) -> None:
    """Draws one estimator: a mark per run, the line of equality, the ceiling."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    left, right, low = limits
    axes.plot([left, right], [left, right], color=INK, ls=":", lw=1)
    axes.fill_between([left, right], [left, right], 1e9, color=CLAIM, alpha=0.12, lw=0)
    capped = sorted((x["theory"], max(x["most"], low)) for _, x in marks if "most" in x)
    if capped:
        axes.plot(*zip(*capped), color=CEILING, lw=1.3, ls="--")
    for name, marker in markers.items():
        mine = [(p, x) for p, x in marks if p["generator"] == name]
        for _, x in mine:
            if "hi" in x:
                axes.plot([x["theory"]] * 2, [max(x["lo"], low), max(x["hi"], low)], color=SEEN, lw=1.5)
        axes.scatter(
            [x["theory"] for _, x in mine],
            [max(x["lo"], low) for _, x in mine],
            c=[COLOURS[p["verdict"]] for p, _ in mine],
            marker=marker,
            s=30,
            zorder=3,
            clip_on=False,
        )
    top = max([right, *(1.2 * x["lo"] for _, x in marks)]) * 2
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, top))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _sweep_legend(figure: Figure, markers: Mapping[str, str], known: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = [Line2D([], [], color=INK, ls="", marker=m, label=name) for name, m in markers.items()]
    seen = {p["verdict"] for p in known}
    entries += [Patch(color=colour, label=name) for name, colour in COLOURS.items() if name in seen]
    entries += [
        Line2D([], [], color=INK, ls=":", lw=1, label="shown = claimed"),
        Patch(color=CLAIM, alpha=0.12, label="more than claimed"),
        Line2D([], [], color=CEILING, ls="--", lw=1.3, label="most that could be shown"),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()
