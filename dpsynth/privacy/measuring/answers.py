"""Answers that were bought, kept beside the ledger so that a resumed run need not (and cannot) ask again."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.data.tables.table import PrivateTable, Receipt
from dpsynth.data.units.units import units_of
from dpsynth.errors import GuaranteeVoid
from dpsynth.files import write_whole
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.ledger.lines import canonical
from dpsynth.privacy.measuring.extremes import check_counts, check_scores
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.noise.mechanisms import exact_gaussian, exponential_choice
from dpsynth.privacy.plan.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.bought.questions import Ballot
    from dpsynth.data.units.encoder import Encoder
    from dpsynth.privacy.plan.plan import PlannedEvent

_TRIED = 12  # grids of a ballot that are tried on made-up units
_SURE = 6.0  # noise alone passes what a choice of nothing scores with a chance of e**-6


class Answers:
    """Noisy answers by the name of their event. Released: they were paid for.

    Args:
      path: of a JSON file, written (fsync, atomically) before an event is finished; None means memory.
    """

    def __init__(self, path: str | Path | None = None):
        self._path = None if path is None else Path(path)
        self._kept: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            self._kept = _read(self._path)

    def buy(self, name: str, ledger: Ledger, ask: Callable[[Any], Any]) -> Any:
        """Returns the kept answer to an event, or charges, asks, keeps and finishes it.

        Args:
          ask: takes the receipt, returns JSON-able content.
        Raises:
          BudgetExceeded: the ledger refuses; nothing was read.
          GuaranteeVoid: the event is finished, but its kept answer is not the one it was finished with.
        """
        if name in self._kept:
            if not ledger.is_charged(name):
                raise GuaranteeVoid(
                    f"There is an answer to {name!r}, but no charge: the ledger lost its lines."
                )
            digest = _digest(self._kept[name])
            if not ledger.is_finished(name):  # the process died between keeping and finishing
                ledger.finish(name, digest)
            if ledger.digest(name) != digest:
                raise GuaranteeVoid(f"The kept answer to {name!r} is not the one that was bought.")
            return self._kept[name]
        if ledger.is_finished(name):
            where = self._path or "memory"
            raise GuaranteeVoid(f"The answer to {name!r} was bought, but is gone from {where}. Restore it.")
        answer = ask(ledger.charge(name))
        self._kept[name] = answer
        self._write()
        ledger.finish(name, _digest(answer))
        return answer

    def _write(self) -> None:
        if self._path is None:
            return
        write_whole(self._path, json.dumps(self._kept))


class Shop:
    """What a purchase needs: the table, the plan, the ledger, the noise and the place for answers."""

    def __init__(self, table: PrivateTable, plan: Plan, ledger: Ledger, entropy: Entropy, kept: Answers):
        self.schema, self.units, self.plan = table.schema, units_of(table.schema), plan
        self._table, self._ledger, self._entropy, self._kept = table, ledger, entropy, kept
        self._rows: Any = None  # that were read last
        self._encoded: tuple[Any, Any] | None = None

    def noisy(self, name: str, count, *, scale: int = 1) -> np.ndarray:
        """Buys integer counts, a vector whose length does not depend on the data.

        Args:
          scale: `count` answers in units of 1/scale; a power of two, so that the answer is exact.
        Raises:
          GuaranteeVoid: a made-up unit is worth more than the plan pays for; nothing was charged.
        """
        event = self.plan.event(name)
        check_counts(self.units, count, event.sensitivity * scale, name)

        def ask(receipt) -> list[float]:
            exact = count(self._read(receipt))
            return (exact_gaussian(exact, event.noise_stddev * scale, entropy=self._entropy) / scale).tolist()

        return np.array(self._kept.buy(name, self._ledger, ask), dtype=np.float64)

    def select(self, name: str, find) -> Any:
        """Buys something that is not a vector; `find` takes the rows, the noise stddev and the entropy."""

        def ask(receipt):
            return find(self._read(receipt), self.plan.event(name).noise_stddev, self._entropy)

        return self._kept.buy(name, self._ledger, ask)

    def choose(self, name: str, score: Callable[[Any], np.ndarray]) -> list[int]:
        """Buys the places of the highest scores, one after the other, each by the exponential mechanism.

        Args:
          score: of the rows; one unit moves no score by more than the event's `sensitivity`.
        Raises:
          GuaranteeVoid: a made-up unit moves one by more; nothing was charged.
        """
        event = self.plan.event(name)
        check_scores(self.units, score, event.sensitivity, name)

        def ask(receipt) -> list[int]:
            left = score(self._read(receipt)).astype(np.float64)
            places, chosen = list(range(len(left))), []
            for _ in range(event.choices):
                at = exponential_choice(
                    left[places], event.choice_epsilon, event.sensitivity, entropy=self._entropy
                )
                chosen.append(places.pop(at))
            return chosen

        return self._kept.buy(name, self._ledger, ask)

    def divide(
        self, name: str, ballots: Sequence[Ballot], score: Callable[[Any, Ballot], np.ndarray]
    ) -> list[list[int]]:
        """Buys, for each ballot, the place of a grid for every leaf, -1 for none.

        Each choice is one exponential mechanism on every leaf. What a ballot scores for none is raised until
        noise alone rarely passes it.

        Args:
          score: of the rows, [leaf, grid]; one unit moves the scores of all leaves together by no more than
            the event's `sensitivity`.
        Raises:
          GuaranteeVoid: a made-up unit moves them by more; nothing was charged.
        """
        event = self.plan.event(name)
        for ballot in {id(ballot): ballot.thinned(_TRIED) for ballot in ballots}.values():
            check_scores(self.units, lambda rows, b=ballot: score(rows, b), event.sensitivity, name)

        def ask(receipt) -> list[list[int]]:
            rows = self._read(receipt)
            return [self._divided(event, ballot, score(rows, ballot)) for ballot in ballots]

        return self._kept.buy(name, self._ledger, ask)

    def _divided(self, event: PlannedEvent, ballot: Ballot, scores: np.ndarray) -> list[int]:
        num = scores.shape[1]
        if ballot.least is not None:
            chance = (math.log(num + 1) + _SURE) * 2.0 * event.sensitivity / event.choice_epsilon
            scores = np.column_stack([scores, np.full(len(scores), max(ballot.least, chance))])
        draw = functools.partial(exponential_choice, entropy=self._entropy)
        chosen = [draw(leaf, event.choice_epsilon, event.sensitivity) for leaf in scores]
        return [-1 if place == num else place for place in chosen]

    def encoded(self, frame: pd.DataFrame, encoder: Encoder) -> np.ndarray:
        """Packs whole units; the rows that were read only once per encoder, since the table never changes.

        Raises:
          GuaranteeVoid: the encoder was made for other units than those of the table.
        """
        if encoder.units != self.units:
            raise GuaranteeVoid("The encoder packs other units than those that the plan protects.")
        if frame is not self._rows:
            return encoder.encode(frame)
        if self._encoded is None or self._encoded[0] is not encoder:
            self._encoded = encoder, encoder.encode(frame)
        return self._encoded[1]

    def _read(self, receipt: Receipt) -> pd.DataFrame:
        self._rows = self._table.read(receipt)
        return self._rows


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if not isinstance(kept, dict):
        raise GuaranteeVoid(f"The bought answers at {path} are damaged. Restore them.")
    return kept


def _digest(answer: Any) -> str:
    return hashlib.sha256(canonical(answer).encode()).hexdigest()
