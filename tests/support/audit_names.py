"""Names of the statistics that every audit logs for each attack and stratum, and of its plots."""

COMMON = {"auc", "auc_lo", "auc_hi", "perm_p", "advantage"}
COMMON |= {f"tpr_at_fpr_{rate}{end}" for rate in ("1pct", "0p1pct") for end in ("", "_lo", "_hi")}
COMMON |= {"eps_lo_cp", "eps_lo_gdp", "eps_post_q05", "eps_post_q95", "eps_max_auditable"}
ONE_RUN = {"eps_lo_onerun", "eps_lo_onerun_fdp"}

PLOTS = [
    "What attacks reach",
    "Trade-off",
    "AUC by attack",
    "Lower bounds",
    "Scores of",
    "More targets show more",
]
PLOTS += ["What this audit would have caught"]


def titles(result) -> list[str]:
    """Returns the plots of an audit, by how their titles in `PLOTS` begin."""
    from dpsynth.audit.plots import figures

    found = [figure.layout.title.text for figure in figures(result)]
    return [next((start for start in PLOTS if text.startswith(start)), text) for text in found]
