"""Measures the auditor: how often it cries wolf on sound mechanisms, how often it catches broken ones.

`python -m dpsynth.audit.calibrate` prints every table (half an hour); name tables to print these alone, and
`--cell epsilon=8` for one line of them; `--quick` takes a tenth of the trials. Nothing here is shipped as a
constant: the figures are measured anew on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpsynth.audit import rates
from dpsynth.audit.rates import ESTIMATORS, GAUSSIANS, SHADOWS, SHARES, TRAINING


def _halve(plan):
    from dpsynth.audit.planted_steps import scale_noise

    return scale_noise(plan, 0.5)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How often each measurement is repeated.

    Args:
      scores: of estimators on simulated scores. audits: of whole audits of sound mechanisms.
      repeats: of planted violations.
    """

    scores: int = 5000
    audits: int = 100
    repeats: int = 20


Line = tuple[str, Callable[[], Sequence[object]]]  # name of a line, and what measures its cells


def _counted(counts: Mapping[str, int], trials: int) -> list[str]:
    return [f"{v} ({v / trials:.1%})" for v in counts.values()]


def _gaussian(size: Size) -> tuple[list[str], list[Line]]:
    def line(epsilon: float) -> Line:
        return f"epsilon={epsilon:g}", lambda: _counted(
            rates.score_level(epsilon, trials=size.scores), size.scores
        )

    return [*ESTIMATORS, "permutation"], [line(e) for e in GAUSSIANS]


def _halved(size: Size) -> tuple[list[str], list[Line]]:
    trials = size.scores // 10

    def line(epsilon: float, n: int) -> Line:
        found = lambda: rates.score_level(epsilon, trials=trials, per_world=n, separation=2.0)  # noqa: E731
        return f"epsilon={epsilon:g} n={n}", lambda: _counted(found(), trials)

    return list(ESTIMATORS), [line(e, n) for e in GAUSSIANS if e for n in (200, 500)]


def _response(size: Size) -> tuple[list[str], list[Line]]:
    def line(epsilon: float) -> Line:
        found = lambda: rates.coin_flip_level(epsilon, trials=size.scores)  # noqa: E731
        return f"epsilon={epsilon:g}", lambda: _counted(found(), size.scores)

    return ["one_run_f_dp", "one_run_steinke"], [line(e) for e in GAUSSIANS]


def _shares(size: Size) -> tuple[list[str], list[Line]]:
    def line(mu: float, n: int, separation: float) -> Line:
        trials = size.scores if separation == 1.0 else size.scores // 10
        found = lambda: rates.share_level(mu, trials=trials, per_world=n, separation=separation)  # noqa: E731
        name = f"mu={mu:g} n={n}" + ("" if separation == 1.0 else " halved")
        return name, lambda: _counted(found(), trials)

    cells = [(mu, n) for mu in (0.0, 0.27, 1.66, 3.0) for n in (25, 100, 500)]
    broken = [line(mu, n, 2.0) for mu, n in cells if mu]
    return [f"share {s:g}" for s in SHARES], [line(mu, n, 1.0) for mu, n in cells] + broken


def _steps(size: Size) -> tuple[list[str], list[Line]]:
    def line(epsilon: float, m: int, name: str, break_plan=None) -> Line:
        trials = size.audits if break_plan is None else 2 * size.repeats
        rate = lambda: rates.whitebox_rate(epsilon, trials=trials, m=m, break_plan=break_plan)  # noqa: E731
        return f"epsilon={epsilon:g} m={m} {name}", lambda: [f"{rate()}/{trials}"]

    cells = [(e, 1000 if e == 1.0 else 500) for e in TRAINING]
    lines = [line(e, m, "sound") for e, m in cells]
    return ["violations found"], lines + [line(e, m, "noise halved", _halve) for e, m in cells]


def _release(size: Size) -> tuple[list[str], list[Line]]:
    trials = size.audits // 2

    def cells(epsilon: float, seed: int) -> list[str]:
        p_values, alarms = rates.release_p_values(trials=trials, epsilon=epsilon, seed=seed)
        _P_VALUES.extend(p_values)
        return [f"{alarms}/{trials}", f"{p_values.mean():.2f}"]

    claims = (("no trace", 0.0, 0), ("epsilon=1", 1.0, 1))
    return ["alarms", "mean p of domias"], [(n, lambda e=e, s=s: cells(e, s)) for n, e, s in claims]


def _shadows(size: Size) -> tuple[list[str], list[Line]]:
    def line(name: str, leaky: bool, trials: int) -> Line:
        found = lambda: rates.shadow_rate(trials=trials, leaky=leaky)  # noqa: E731
        return name, lambda: [f"{n}/{trials}" for n in found().values()]

    return list(SHADOWS), [
        line("sound", False, 2 * size.audits),
        line("a quarter copied", True, size.repeats),
    ]


def _zoo(size: Size) -> tuple[list[str], list[Line]]:
    from dpsynth.audit.planted import ZOO

    def line(violation) -> Line:
        def cells() -> list[str]:
            found = [
                sum(violation.detect(broken, i) for i in range(size.repeats)) for broken in (True, False)
            ]
            return [f"{n}/{size.repeats}" for n in found]

        return f"{violation.detector}: {violation.name}", cells

    return ["caught", "alarms on the sound twin"], [line(v) for v in ZOO]


_P_VALUES: list[float] = []
TABLES = {
    "gaussian": (_gaussian, "False alarms of estimators at alpha = 0.05, {scores} trials, 200 per world"),
    "response": (_response, "False alarms of one-run tests on randomised response, {scores} trials"),
    "shares": (_shares, "GDP bounds above the truth, by the share called member, {scores} trials"),
    "halved": (_halved, "Estimators when the noise is halved: claims rejected"),
    "steps": (_steps, "White-box audits of the training step"),
    "release": (_release, "Release audits of tables that nobody's row went into"),
    "shadows": (_shadows, "The attack by shadow releases"),
    "zoo": (_zoo, "Planted violations and their sound twins"),
}


def lines(table: str, size: Size, cell: str = "") -> Iterator[str]:
    """Measures one table, or its lines whose name contains `cell`; yields Markdown."""
    make, title = TABLES[table]
    head, found = make(size)
    chosen = [(name, measure) for name, measure in found if cell in name]
    if not chosen:
        return
    yield title.format(scores=size.scores) + "\n"
    yield _row(table, *head)
    yield _row(*["---"] * (1 + len(head)))
    for name, measure in chosen:
        cells = [*measure(), *[""] * len(head)]
        yield _row(name, *cells[: len(head)])
    yield ""


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; all when none")
    parser.add_argument("--cell", default="", metavar="TEXT", help="only lines whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--page", metavar="FILE", help="write the quantiles of release p-values as HTML")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.tables if name not in TABLES]:
        parser.error(f"No table {unknown[0]!r}. Choose from {', '.join(TABLES)}.")
    size = Size(scores=500, audits=10, repeats=5) if asked.quick else Size()
    start = time.time()
    for table in asked.tables or TABLES:
        for line in lines(table, size, asked.cell):
            print(line, flush=True)
    if asked.page and _P_VALUES:
        from dpsynth.audit.plots import uniformity_plot

        uniformity_plot(np.array(_P_VALUES)).write_html(asked.page)
    print(f"{time.time() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
