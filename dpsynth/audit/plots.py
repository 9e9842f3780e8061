"""Figures of an audit, from rates, counts and statistics: no single target's score is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit.types import AuditResult

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK, CLAIM, SEEN = "#1f2933", "#d97706", "#2563eb"
_LAYOUT = {"template": "plotly_white", "height": 420, "margin": {"l": 60, "r": 20, "t": 50, "b": 50}}


def roc_plot(result: AuditResult) -> Figure:
    """Draws the ROC on log axes, the region that the claim excuses, and the rates that cannot be resolved."""
    import plotly.graph_objects as go

    figure, smallest = go.Figure(), 1e-4
    grid = np.geomspace(smallest, 1, 200)
    if allowed := result.curves.get("allowed"):
        figure.add_scatter(
            x=allowed["fpr"],
            y=allowed["tpr"],
            name="allowed by the claim",
            mode="lines",
            fill="tozeroy",
            fillcolor="rgba(217, 119, 6, 0.15)",
            line={"color": CLAIM},
        )
    figure.add_scatter(x=grid, y=grid, name="guessing", line={"color": INK, "dash": "dot"})
    rocs = result.curves.get("roc") or {}
    if rocs:
        strongest = max(rocs, key=lambda name: np.trapezoid(rocs[name]["tpr"], rocs[name]["fpr"]))
        _add_band(figure, strongest, rocs[strongest], smallest)
    for name, curve in rocs.items():
        x, y = (np.maximum(curve[rate], smallest) for rate in ("fpr", "tpr"))
        figure.add_scatter(x=x, y=y, name=name, mode="lines")
    resolved = 20 / max(2, int(result.params.get("m") or 2))  # ten false positives among half of the targets
    if resolved > smallest:
        figure.add_vrect(x0=smallest, x1=min(1.0, resolved), fillcolor=INK, opacity=0.06, line_width=0)
    axis = {"type": "log", "range": [np.log10(smallest), 0.02], "dtick": 1, "tickformat": "~g"}
    figure.update_xaxes(title="false-positive rate (grey: too few non-members to resolve)", **axis)
    figure.update_yaxes(title="true-positive rate", **axis)
    return figure.update_layout(title="What attacks reach and what the claim allows", **_LAYOUT)


def _add_band(figure: Figure, name: str, curve: dict[str, Any], smallest: float) -> None:
    """Draws 95 % Clopper-Pearson limits of the true-positive rates of one attack, point by point."""
    from dpsynth.audit.stats.roc import clopper_pearson

    fpr, num = np.maximum(curve["fpr"], smallest), curve["num_in"]
    limits = np.array([clopper_pearson(round(t * num), num, 0.025) for t in curve["tpr"]])
    ends = np.maximum(np.concatenate([limits[:, 1], limits[::-1, 0]]), smallest)
    figure.add_scatter(
        x=np.concatenate([fpr, fpr[::-1]]),
        y=ends,
        mode="lines",
        fill="toself",
        fillcolor="rgba(37, 99, 235, 0.18)",
        line={"width": 0},
        hoverinfo="skip",
        name=f"{name}, 95 %",
    )


def trade_off_plot(result: AuditResult) -> Figure:
    """Draws misses against false alarms: the attack, the claim's f, and GDP with the same AUC."""
    import plotly.graph_objects as go
    from scipy.special import ndtri

    from dpsynth.audit.stats.tradeoff import gaussian

    figure, grid = go.Figure(), np.linspace(0, 1, 201)
    for name, curve in (result.curves.get("roc") or {}).items():
        figure.add_scatter(x=curve["fpr"], y=1 - np.asarray(curve["tpr"]), name=name, mode="lines")
    if allowed := result.curves.get("allowed"):
        fpr, tpr = np.asarray(allowed["fpr"]), np.asarray(allowed["tpr"])
        figure.add_scatter(x=fpr, y=1 - tpr, name="f of the claim", line={"color": CLAIM, "width": 3})
        mu = float(np.sqrt(2) * ndtri(min(max(np.trapezoid(tpr, fpr), 0.5), 1 - 1e-12)))
        figure.add_scatter(x=grid, y=gaussian(mu).beta(grid), name=f"{mu:.2f}-GDP", line={"dash": "dash"})
    figure.update_xaxes(title="false-positive rate").update_yaxes(title="false-negative rate")
    return figure.update_layout(title="Trade-off: below f is forbidden", **_LAYOUT)


def forest_plot(result: AuditResult) -> Figure:
    """Draws the AUC of every attack and stratum with its interval, and the ceiling."""
    import plotly.graph_objects as go

    rows = [(f"{f.attack} · {f.stratum}", f.statistics) for f in result.findings]
    value = np.array([s["auc"] for _, s in rows])
    figure = go.Figure(
        go.Scatter(
            x=value,
            y=[name for name, _ in rows],
            mode="markers",
            marker={"color": SEEN},
            error_x={
                "array": np.array([s["auc_hi"] for _, s in rows]) - value,
                "arrayminus": value - np.array([s["auc_lo"] for _, s in rows]),
            },
            name="AUC, 95 %",
        )
    )
    figure.add_vline(x=0.5, line={"color": INK, "dash": "dot"})
    ceilings = [s["auc_ceiling"] for _, s in rows if "auc_ceiling" in s]
    if ceilings:
        figure.add_vline(x=ceilings[0], line={"color": CLAIM}, annotation_text="ceiling")
    layout = _LAYOUT | {
        "height": 140 + 26 * max(4, len(rows)),
        "margin": {"l": 220, "r": 20, "t": 50, "b": 50},
    }
    return figure.update_layout(title="AUC by attack and stratum", **layout)


_BOUNDS = {
    "eps_lo_onerun": ("one run, Steinke", "eps_max_auditable_onerun"),
    "eps_lo_onerun_fdp": ("one run, f-DP (assumes GDP)", "eps_max_auditable_onerun_fdp"),
    "eps_lo_auc": ("AUC (assumes rate, steps)", "eps_max_auditable_auc"),
    "eps_lo_cp": ("Clopper-Pearson", "eps_max_auditable"),
    "eps_lo_gdp": ("GDP (assumes GDP)", "eps_max_auditable_gdp"),
    "eps_post_q05": ("Bayes, 5 % quantile", "eps_max_auditable_post"),
}


def bounds_plot(result: AuditResult) -> Figure:
    """Draws every lower bound on epsilon beside what it could at most have shown, and the claim."""
    import plotly.graph_objects as go

    best: dict[str, tuple[float, float]] = {}
    for finding in result.findings:
        for key, (name, most) in _BOUNDS.items():
            if key in finding.statistics:
                pair = (finding.statistics[key], finding.statistics.get(most, float("nan")))
                best[name] = max(best.get(name, (-1.0, 0.0)), pair)
    figure = go.Figure()
    figure.add_bar(x=list(best), y=[b for b, _ in best.values()], name="shown", marker_color=SEEN)
    ceilings = [c for _, c in best.values()]
    figure.add_scatter(
        x=list(best),
        y=ceilings,
        mode="markers",
        name="most that could be shown",
        marker={"symbol": "line-ew-open", "size": 28},
    )
    claimed = _tested(result)
    if claimed is not None:
        figure.add_hline(y=claimed, line={"color": CLAIM}, annotation_text="claimed")
    tallest = max([b for b, _ in best.values()] + [claimed or 0.0, 0.1])
    figure.update_yaxes(title="epsilon", range=[0, 1.5 * tallest])  # marks far above say no more
    what = "Lower bounds on epsilon"
    if "eps_theory_step" in result.summary:
        what += f", of the {result.params['steps']} steps as audited"
    return figure.update_layout(title=what, **_LAYOUT)


def _tested(result: AuditResult) -> float | None:
    """Returns the epsilon that bounds are held against: a step may be audited under a claim of its own."""
    return result.summary.get("eps_theory_step", result.claim.epsilon)


def power_plot(result: AuditResult) -> Figure | None:
    """Draws the power of the audit's test against how badly the mechanism is broken."""
    import plotly.graph_objects as go

    seen = result.curves.get("power") or _power_by_noise(result.params)
    if seen is None:
        return None
    figure = go.Figure(go.Scatter(x=seen["x"], y=seen["power"], mode="lines+markers", line={"color": SEEN}))
    figure.add_hline(y=0.8, line={"color": INK, "dash": "dot"}, annotation_text="asked for")
    figure.update_xaxes(title=seen["axis"]).update_yaxes(title="power", range=[0, 1.02])
    return figure.update_layout(title="What this audit would have caught", **_LAYOUT)


def _power_by_noise(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the power of the white-box claim test against the factor by which noise is too small."""
    from dpsynth.audit.stats.claim import power
    from dpsynth.audit.stats.tradeoff import subsampled_gaussian

    if not {"noise_multiplier", "sample_rate", "steps", "m"} <= params.keys():
        return None
    half, ratios, rng = int(params["m"]) // 2, (1.0, 1.1, 1.25, 1.5, 2.0), np.random.default_rng(0)
    curves = [
        subsampled_gaussian(params["noise_multiplier"] / r, params["sample_rate"], params["steps"])
        for r in ratios
    ]
    powers = [power(curves[0], c, half, half, alpha=params["alpha"], rng=rng) for c in curves]
    return {"x": ratios, "power": powers, "axis": "planned noise over actual noise"}


def density_plot(result: AuditResult) -> Figure:
    """Draws the scores of targets inside and outside, and what the plan makes of them where it says."""
    import plotly.graph_objects as go

    density, figure = result.curves["density"], go.Figure()
    for world, colour in (("in", CLAIM), ("out", SEEN)):
        figure.add_bar(
            x=density["centre"],
            y=density[world],
            marker_color=colour,
            opacity=0.45,
            name=f"trained on: {'yes' if world == 'in' else 'no'}",
        )
        if f"claimed {world}" in density:
            figure.add_scatter(
                x=density["centre"],
                y=density[f"claimed {world}"],
                line={"color": colour, "shape": "spline"},
                name="as planned",
            )
    planned = "claimed in" in density
    figure.update_xaxes(title="score: log likelihood ratio" if planned else "score")
    figure.update_yaxes(title="density")
    what = "Scores of made-up canaries, and as planned" if planned else f"Scores of {_shown(result)}"
    return figure.update_layout(title=what, barmode="overlay", bargap=0, **_LAYOUT)


def _shown(result: AuditResult) -> str:
    """Names the attack that densities and convergence are of."""
    return result.curves.get("shown") or " and ".join(result.curves.get("roc") or ["the attack"])


def convergence_plot(result: AuditResult) -> Figure:
    """Draws what fewer targets would have shown."""
    from plotly.subplots import make_subplots

    seen = result.curves["convergence"]
    m, auc = seen["m"], np.asarray(seen["auc"])
    figure = make_subplots(1, 2, subplot_titles=("AUC, 95 %", "lower bounds on epsilon (assume GDP)"))
    spread = {"array": np.asarray(seen["auc_hi"]) - auc, "arrayminus": auc - np.asarray(seen["auc_lo"])}
    figure.add_scatter(x=m, y=auc, error_y=spread, name="AUC", line={"color": SEEN}, row=1, col=1)
    if allowed := result.curves.get("allowed"):
        ceiling = float(np.trapezoid(allowed["tpr"], allowed["fpr"]))
        figure.add_scatter(
            x=m, y=[ceiling] * len(m), name="ceiling", line={"color": CLAIM, "dash": "dot"}, row=1, col=1
        )
    for key, name, colour in (("f_dp", "one run, f-DP", SEEN), ("gdp", "threshold, GDP", CLAIM)):
        figure.add_scatter(x=m, y=seen[key], name=name, line={"color": colour}, row=1, col=2)
    if (claimed := _tested(result)) is not None:
        figure.add_hline(y=claimed, line={"color": INK, "dash": "dot"}, row=1, col=2)
    figure.update_xaxes(type="log", title="targets")
    return figure.update_layout(title=f"More targets show more: {_shown(result)}", **_LAYOUT)


def uniformity_plot(p_values: np.ndarray) -> Figure:
    """Draws p-values of sound mechanisms against uniform quantiles: on or above the line is honest."""
    import plotly.graph_objects as go

    ordered = np.sort(np.asarray(p_values, float))
    expected = (np.arange(len(ordered)) + 0.5) / max(1, len(ordered))
    figure = go.Figure(go.Scatter(x=expected, y=ordered, mode="markers", name="p-values"))
    line = {"color": INK, "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], name="uniform", mode="lines", line=line)
    figure.update_xaxes(title="uniform quantile").update_yaxes(title="p-value")
    return figure.update_layout(title="p-values of sound mechanisms", **_LAYOUT)


def figures(result: AuditResult) -> list[Figure]:
    """Returns the figures that a result has the material for."""
    made = []
    if result.curves.get("roc"):
        made += [roc_plot(result), trade_off_plot(result)]
    if result.findings:
        made += [forest_plot(result), bounds_plot(result)]
    if "density" in result.curves:
        made.append(density_plot(result))
    if "convergence" in result.curves:
        made.append(convergence_plot(result))
    extra = power_plot(result)
    return made if extra is None else [*made, extra]
