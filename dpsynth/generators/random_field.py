"""A Markov random field over the cells of columns, with inference by the library mbi (extra `marginal`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from dpsynth.data.denoising import observed
from dpsynth.data.grid import Domain
from dpsynth.data.statistics import STRATA, Statistics

Clique = tuple[str, ...]
_FLOOR = 1.0  # rows: the least standard deviation of a count, where none was added


class Field:
    """A Markov random field, fitted to all bought histograms at once; each fit goes on where the last was."""

    def __init__(self, domain: Domain):
        self._domain = _mbi().Domain(domain.names, domain.sizes)
        self.potentials: dict[Clique, np.ndarray] = {}
        self._answers: dict[Clique, np.ndarray] = {}

    def size_with(self, clique: Clique) -> float:
        """Megabytes of the field with one more clique."""
        return _mbi().junction_tree.hypothetical_model_size(self._domain, [*self.potentials, clique])

    def answer(self, clique: Clique) -> np.ndarray | None:
        return self._answers.get(clique)

    def fit(self, statistics: Statistics, steps: int) -> None:
        """Takes steps of mirror descent with Armijo's rule on the Gaussian likelihood of bought counts.

        Source: McKenna, Sheldon & Miklau (2019), Graphical-model based estimation and inference for
          differential privacy, algorithm 1.
        """
        total = max(statistics.num_rows, 1.0)
        wanted = _wanted(statistics)
        potentials = {
            clique: self.potentials.get(clique, np.zeros(means.shape))
            for clique, (means, _) in wanted.items()
        }
        infer = self._oracle(tuple(potentials), total)
        answers = infer(potentials)
        loss = _loss(answers, wanted)
        size = 2.0 / (total * max(float(precision.max()) for _, precision in wanted.values()))
        for _ in range(steps):
            slopes = {c: (answers[c] - means) * precision for c, (means, precision) in wanted.items()}
            tried = {c: potentials[c] - size * slopes[c] for c in potentials}
            found = infer(tried)
            new = _loss(found, wanted)
            promised = sum(float((slopes[c] * (answers[c] - found[c])).sum()) for c in potentials)
            if loss - new >= 0.25 * promised:  # false for what is not finite
                potentials, answers, loss, size = tried, found, new, 1.1 * size
            else:
                size *= 0.5
        self.potentials, self._answers = potentials, answers

    def _oracle(self, cliques: tuple[Clique, ...], total: float) -> Any:
        import jax

        mbi = _mbi()
        run = jax.jit(mbi.marginal_oracles.message_passing_shafer_shenoy)

        def infer(potentials: Mapping[Clique, np.ndarray]) -> dict[Clique, np.ndarray]:
            found = run(_vector(self._domain, potentials), total)
            return {clique: np.asarray(found[clique].values) for clique in cliques}

        return infer


def _wanted(statistics: Statistics) -> dict[Clique, tuple[np.ndarray, np.ndarray]]:
    """Mean and precision of the counts of every clique that was bought, once or more."""
    found: dict[Clique, tuple[np.ndarray, np.ndarray]] = {}
    for marginal, variance in observed(statistics):
        clique = tuple(name.removeprefix(STRATA) for name in marginal.columns)
        precision = 1.0 / (variance + _FLOOR**2)
        if clique in found:
            mean, known = found[clique]
            mean = (mean * known + marginal.counts * precision) / (known + precision)
            found[clique] = mean, known + precision
        else:
            found[clique] = marginal.counts, precision
    return found


def _loss(
    answers: Mapping[Clique, np.ndarray], wanted: Mapping[Clique, tuple[np.ndarray, np.ndarray]]
) -> float:
    return 0.5 * sum(float(((answers[c] - means) ** 2 * p).sum()) for c, (means, p) in wanted.items())


def _mbi() -> Any:
    """The library, in double precision and without its own warnings about that."""
    import os
    import warnings

    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_enable_x64", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mbi
    return mbi


def _vector(domain: Any, potentials: Mapping[Clique, np.ndarray]) -> Any:
    mbi = _mbi()
    tables = {c: mbi.Factor(domain.project(c), values) for c, values in potentials.items()}
    return mbi.CliqueVector(domain, tuple(tables), tables)


def draw_rows(
    potentials: Mapping[Clique, np.ndarray], domain: Domain, num: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws rows whose answers round those of the field; codes by column."""
    if num == 0:
        return {}
    mbi = _mbi()
    vector = _vector(mbi.Domain(domain.names, domain.sizes), potentials)
    field = mbi.MarkovRandomField(potentials=vector, marginals=vector, total=float(num))
    with _numpy_seeded(seed):
        made = field.synthetic_data(num)
    return {name: np.asarray(made.data[name]) for name in domain.names}


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """The library draws from numpy's global generator; it is put back as it was."""
    state = np.random.get_state()
    np.random.set_state(np.random.RandomState(seed % 2**32).get_state())
    try:
        yield
    finally:
        np.random.set_state(state)
