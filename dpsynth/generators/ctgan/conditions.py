"""CTGAN's conditional vectors, and rows drawn from bought frequencies: neither looks at the table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dpsynth.data.rows.encoder import Layout, TableEncoder
from dpsynth.generators.parts.nn import normal, uniform

_QUANTILES = 1024  # of a rough draw: shares are rounded to as many parts


class Frequencies(nn.Module):
    """Draws codes of one-hot segments by given shares, all segments at once.

    Args:
      shares: one array per one-hot segment of a layout, in order; each is normalised.
    """

    def __init__(self, shares: list[np.ndarray]):
        super().__init__()
        ladder = []  # segment s climbs from s to s + 1, so that one sorted search serves all
        middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        quantiles = []
        for index, share in enumerate(shares):
            steps = np.cumsum(share) / np.sum(share)
            steps[np.nonzero(share)[0][-1] :] = 1.0
            ladder.append(index + steps)
            quantiles.append(np.searchsorted(steps, middles, side="right"))
        starts = np.cumsum([0, *(len(share) for share in shares)])[:-1]
        ladder = np.concatenate(ladder) if ladder else np.empty(0)
        self.register_buffer("ladder", torch.from_numpy(ladder), persistent=False)
        self.register_buffer("starts", torch.from_numpy(starts).long(), persistent=False)
        quantiles = np.concatenate(quantiles) if quantiles else np.empty(0)
        self.register_buffer("quantiles", torch.from_numpy(quantiles).float(), persistent=False)
        self.register_buffer("places", _QUANTILES * torch.arange(len(shares)), persistent=False)

    def rough_rows(self, num: int, draw: torch.Generator) -> Tensor:
        """Draws codes of every segment by shares rounded to 1024 parts, [row onehot], many times faster."""
        heights = uniform((num, len(self.places)), draw).mul_(_QUANTILES).long().clamp_(max=_QUANTILES - 1)
        return self.quantiles[heights.add_(self.places)]

    def codes(self, onehots: Tensor, draw: torch.Generator) -> Tensor:
        """Draws a code for each of the one-hot segments named, any shape."""
        height = uniform(onehots.shape, draw).double().clamp(max=1 - 1e-9)
        return torch.searchsorted(self.ladder, onehots + height, right=True) - self.starts[onehots]


class Choice(NamedTuple):
    """One condition per row.

    Args:
      columns: [...] which of the conditioned columns.
      codes: [...] the cell asked for.
    """

    columns: Tensor
    codes: Tensor


class Conditions(nn.Module):
    """The conditional vector: a one-hot over all cells of the conditioned columns.

    Args:
      columns: names of the columns that can be asked for; may be empty.
    """

    def __init__(self, layout: Layout, columns: tuple[str, ...]):
        super().__init__()
        onehots = [s for s in layout.segments if s.kind == "onehot"]
        places = [i for i, s in enumerate(onehots) if s.column in columns]
        sizes = [onehots[i].size for i in places]
        packed = [layout.onehot(onehots[i].column) for i in places]
        self.width, self.num_columns = sum(sizes), len(places)
        offsets = np.cumsum([0, *sizes])[:-1].tolist()
        for name, values in (("onehots", places), ("packed", packed), ("offsets", offsets)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.long), persistent=False)

    def draw(self, num: int, frequencies: Frequencies, draw: torch.Generator) -> Choice:
        """A column at random, then a cell by its frequency."""
        columns = self._columns((num,), draw)
        return Choice(columns, frequencies.codes(self.onehots[columns], draw))

    def of_rows(self, units: Tensor, draw: torch.Generator) -> Choice:
        """A column at random, with the cell that the row itself has; padding rows get the first cell."""
        columns = self._columns(units.shape[:-1], draw)
        codes = units.gather(-1, self.packed[columns].unsqueeze(-1)).squeeze(-1)
        return Choice(columns, codes.nan_to_num().long())

    def _columns(self, shape: torch.Size | tuple[int, ...], draw: torch.Generator) -> Tensor:
        return (uniform(shape, draw) * self.num_columns).long().clamp(max=self.num_columns - 1)

    def vector(self, choice: Choice) -> Tensor:
        """The conditional vector of each row, [... width]."""
        vector = torch.zeros(*choice.codes.shape, self.width, device=choice.codes.device)
        return vector.scatter_(-1, (self.offsets[choice.columns] + choice.codes).unsqueeze(-1), 1.0)

    def write(self, packed: Tensor, choice: Choice) -> Tensor:
        """Packed rows with the cells asked for."""
        index = self.packed[choice.columns].unsqueeze(-1)
        return packed.scatter(-1, index, choice.codes.unsqueeze(-1).to(packed.dtype))


def bought_frequencies(encoder: TableEncoder, *, logarithmic: bool = False) -> Frequencies:
    """The bought shares of every one-hot; `logarithmic` flattens them to log(1 + rows), as CTGAN does."""
    columns = [s.column for s in encoder.layout.segments if s.kind == "onehot"]
    shares = [encoder.frequencies(column) for column in columns]
    if logarithmic:
        shares = [np.log1p(share * encoder.statistics.num_rows) for share in shares]
    return Frequencies(shares)


def independent_rows(layout: Layout, frequencies: Frequencies, num: int, draw: torch.Generator) -> Tensor:
    """Packed rows whose columns are drawn one by one from the frequencies, roughly; scalars narrowly."""
    codes = frequencies.rough_rows(num, draw)
    onehots = [i for i, s in enumerate(layout.segments) if s.kind == "onehot"]
    if len(onehots) == layout.packed_width:
        return codes
    rows = (0.25 * normal((num, layout.packed_width), draw)).clamp_(-1.0, 1.0)
    rows[:, onehots] = codes
    return rows
