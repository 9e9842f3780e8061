"""Anchors a sequence generator to bought histograms: free, since the histograms were paid for.

Soft outputs of a batch give every bought histogram as a few matrix products, weighted per entity as the
bought ones are. The loss is the Gaussian negative log-likelihood of the bought counts.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpsynth.data.bought.grid import project_to_simplex
from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.sequences.layout import SequenceLayout
from dpsynth.data.sequences.questions import LENGTH, STEP, SequenceQuestion
from dpsynth.generators.dgan.nets import Generated


class SequenceAnchor:
    """Distance between a generated batch and bought histograms.

    Formal guarantee: post-processing of bought counts and of generated samples.

    Args:
      layout: of codes; every attribute and feature is a one-hot.
      statistics: bought; joint histograms have `SequenceQuestion.columns` as names.
    """

    def __init__(self, layout: SequenceLayout, statistics: Statistics):
        self.layout, self.num_units = layout, max(float(statistics.num_units), 1.0)
        self._places = {s.column: slice(s.start, s.start + s.size) for s in layout.segments}
        self._attributes = {s.column for s in layout.attributes}
        self._blocks: dict[str, tuple[Tensor, Tensor]] = {}
        self.num_cells = 0
        for marginal in statistics.marginals:
            place = self._block(SequenceQuestion.of_columns(marginal.columns))
            self._add(*place, marginal.counts, marginal.noise_stddev**2)
        for name in set(self._places) & set(statistics.fine):
            self._add("alone", slice(0, 1), self._alone(name), *_grouped(statistics, name))

    def _add(
        self, key: str, rows: slice, columns: slice, counts: np.ndarray, variance: np.ndarray | float
    ) -> None:
        if key not in self._blocks:
            shape = self._shape(key)
            self._blocks[key] = (torch.zeros(shape), torch.zeros(shape))
        targets, weights = self._blocks[key]
        likely = project_to_simplex(counts, max(float(counts.sum()), 1.0))
        variance = variance + likely + self.num_units / (10 * counts.size)
        targets[rows, columns] = torch.as_tensor(counts / self.num_units, dtype=torch.float32)
        weights[rows, columns] = torch.as_tensor(self.num_units**2 / variance, dtype=torch.float32)
        self.num_cells += counts.size

    def _alone(self, name: str) -> slice:
        """Where a column lies among all attributes, then all features."""
        place, shift = self._places[name], self.layout.attribute_width
        return place if name in self._attributes else slice(place.start + shift, place.stop + shift)

    def _block(self, question: SequenceQuestion) -> tuple[str, slice, slice]:
        row, column, every = question.row, question.column, slice(None)
        if row == LENGTH or column == LENGTH:
            if row == column:
                return "length", every, every
            return "attribute length", self._places[row], every
        if row == STEP:
            return "step", every, self._places[column]
        if row in self._attributes:
            kind = "attribute" if column in self._attributes else "attribute feature"
            if row == column:
                kind = "attribute alone"
            return kind, self._places[row], self._places[column]
        return f"lag {question.lag}", self._places[row], self._places[column]

    def _shape(self, key: str) -> tuple[int, int]:
        a, t = self.layout.attribute_width, self.layout.max_length
        f = sum(s.size for s in self.layout.features)
        shapes = {"length": (t, t), "attribute length": (a, t), "step": (t, f)}
        shapes |= {"attribute": (a, a), "attribute alone": (a, a), "attribute feature": (a, f)}
        shapes |= {"alone": (1, a + f)}
        return shapes.get(key, (f, f))

    def loss(self, made: Generated) -> Tensor:
        """Mean over bought cells of the squared standardised residual, estimated without bias.

        Two halves of the batch give independent residuals whose product has the right mean; the square
        of one residual would also charge the batch's own sampling noise and so favour generators whose
        samples are all alike.
        """
        half = len(made.features) // 2
        first, second = self._answers(made, slice(0, half)), self._answers(made, slice(half, 2 * half))
        total = made.features.new_zeros(())
        for key, (targets, weights) in self._blocks.items():
            targets, weights = targets.to(total.device), weights.to(total.device)
            total = total + ((first[key] - targets) * (second[key] - targets) * weights).sum()
        return total / max(self.num_cells, 1)

    def length_shares(self) -> Tensor | None:
        """Bought frequencies of lengths 1 … max; None where they do not vary."""
        if "length" not in self._blocks:
            return None
        counts = self._blocks["length"][0].diagonal().double().numpy()
        shares = project_to_simplex(counts, max(float(counts.sum()), 1e-3))
        return torch.as_tensor(shares / shares.sum(), dtype=torch.float32)

    def answers(self, made: Generated) -> dict[str, Tensor]:
        """Every bought block as the batch has it; probabilities."""
        return self._answers(made, slice(None))

    def _answers(self, made: Generated, part: slice) -> dict[str, Tensor]:
        steps = self.layout.max_length
        width = sum(s.size for s in self.layout.features)
        soft, hard = made.attributes[part], made.condition[part]
        features = made.features[part][:, :, :width]
        num = len(features)
        lengths = self._length_probabilities(made.features[part])
        answers = {}
        for key in self._blocks:
            if key == "length":
                answers[key] = torch.diag(lengths.mean(0))
            elif key == "attribute length":
                answers[key] = hard.T @ lengths / num
            elif key == "alone":
                along = (self._weights(lengths, 0)[:, :, None] * features).sum(1)
                answers[key] = torch.cat([soft.mean(0), along.mean(0)])[None, :]
            elif key == "attribute alone":
                answers[key] = torch.diag(soft.mean(0))
            elif key == "attribute":
                answers[key] = soft.T @ soft / num
            elif key == "step":
                answers[key] = (self._weights(lengths, 0)[:, :, None] * features).mean(0)
            elif key == "attribute feature":
                mean = (self._weights(lengths, 0)[:, :, None] * features).sum(1)
                answers[key] = hard.T @ mean / num
            else:
                lag = int(key.split()[1])
                early = self._weights(lengths, lag)[:, :, None] * features[:, : steps - lag]
                late = features[:, lag:]
                answers[key] = early.reshape(-1, width).T @ late.reshape(-1, width) / num
        return answers

    def _length_probabilities(self, features: Tensor) -> Tensor:
        """P(length = 1 … max) of each sequence, [n, step]."""
        steps = self.layout.max_length
        if not self.layout.variable:
            last = features.new_zeros(len(features), steps)
            last[:, -1] = 1.0
            return last
        survival = features[:, :, -1]
        return survival - torch.cat([survival[:, 1:], survival.new_zeros(len(survival), 1)], 1)

    def _weights(self, lengths: Tensor, lag: int) -> Tensor:
        """E[1{step + lag < length} / (length − lag)] of each step, [n, step − lag]: an entity weighs 1."""
        pairs = torch.arange(1, lengths.shape[1] + 1 - lag, device=lengths.device)
        shares = lengths[:, lag:] / pairs
        return shares.flip(1).cumsum(1).flip(1)


def _grouped(statistics: Statistics, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The bought 1-way histogram of a column over its coarse cells, and the variance of their noise."""
    fine, cells = statistics.fine[name], statistics.domain[name]
    counts = np.bincount(cells.group_map, weights=fine.counts, minlength=cells.size)
    return counts, fine.noise_stddev**2 * np.bincount(cells.group_map, minlength=cells.size)
