"""Answers that were bought, kept beside the ledger so that a resumed run need not (and cannot) ask again."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dpsynth.data.table import PrivateTable
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.ledger import Ledger
from dpsynth.privacy.noise import Entropy, exact_gaussian, exponential_choice
from dpsynth.privacy.plan import Plan
from dpsynth.privacy.records import canonical

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
            self._kept = json.loads(self._path.read_text(encoding="utf-8"))

    def buy(self, name: str, ledger: Ledger, ask: Callable[[Any], Any]) -> Any:
        """Returns the kept answer to an event, or charges, asks, keeps and finishes it.

        Args:
          ask: takes the receipt, returns JSON-able content.
        Raises:
          BudgetExceeded: the ledger refuses; nothing was read.
          GuaranteeVoid: the event is finished, but its kept answer is not the one it was finished with.
        """
        if name in self._kept:
            digest = _digest(self._kept[name])
            if not ledger.is_finished(name):  # the process died between keeping and finishing
                ledger.finish(name, digest)
            if ledger.digest(name) != digest:
                raise GuaranteeVoid(f"The kept answer to {name!r} is not the one that was bought.")
            return self._kept[name]
        answer = ask(ledger.charge(name))
        self._kept[name] = answer
        self._write()
        ledger.finish(name, _digest(answer))
        return answer

    def _write(self) -> None:
        if self._path is None:
            return
        partial = self._path.with_name(self._path.name + ".partial")
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(self._kept, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._path)


class Shop:
    """What a purchase needs: the table, the plan, the ledger, the noise and the place for answers."""

    def __init__(self, table: PrivateTable, plan: Plan, ledger: Ledger, entropy: Entropy, kept: Answers):
        self.schema, self.plan = table.schema, plan
        self._table, self._ledger, self._entropy, self._kept = table, ledger, entropy, kept
        self._encoded: tuple[Any, Any] | None = None

    def noisy(self, name: str, count, *, scale: int = 1) -> np.ndarray:
        """Buys integer counts, a vector whose length does not depend on the data.

        Args:
          scale: `count` answers in units of 1/scale; a power of two, so that the answer is exact.
        """

        def ask(receipt) -> list[float]:
            exact = count(self._table.read(receipt))
            stddev = self.plan.event(name).noise_stddev * scale
            return (exact_gaussian(exact, stddev, entropy=self._entropy) / scale).tolist()

        return np.array(self._kept.buy(name, self._ledger, ask), dtype=np.float64)

    def select(self, name: str, find) -> Any:
        """Buys something that is not a vector; `find` takes the rows, the noise stddev and the entropy."""

        def ask(receipt):
            return find(self._table.read(receipt), self.plan.event(name).noise_stddev, self._entropy)

        return self._kept.buy(name, self._ledger, ask)

    def choose(self, name: str, score: Callable[[Any], np.ndarray]) -> list[int]:
        """Buys the places of the highest scores, one after the other, each by the exponential mechanism.

        Args:
          score: of the rows; one unit moves no score by more than the event's `sensitivity`.
        """

        def ask(receipt) -> list[int]:
            event, left = self.plan.event(name), score(self._table.read(receipt)).astype(np.float64)
            places, chosen = list(range(len(left))), []
            for _ in range(event.choices):
                at = exponential_choice(
                    left[places], event.choice_epsilon, event.sensitivity, entropy=self._entropy
                )
                chosen.append(places.pop(at))
            return chosen

        return self._kept.buy(name, self._ledger, ask)

    def divide(
        self, name: str, score: Callable[[Any], list[np.ndarray]], least: list[float | None]
    ) -> list[list[int]]:
        """Buys, for each choice, the place of a high score in each of its parts, -1 for none.

        Args:
          score: of the rows, for each choice [part, place]; one unit moves the scores of all parts, in each
            choice, by no more than the event's `sensitivity` in sum.
          least: for each choice the score of none, raised until noise alone rarely passes it; None: there is
            always one.
        """

        def ask(receipt) -> list[list[int]]:
            event, chosen = self.plan.event(name), []
            for table, floor in zip(score(self._table.read(receipt)), least):
                if floor is not None:
                    if math.isfinite(event.choice_epsilon):
                        chance = (math.log(table.shape[1] + 1) + _SURE) * 2.0 * event.sensitivity
                        floor = max(floor, chance / event.choice_epsilon)
                    table = np.column_stack([table, np.full(len(table), floor)])
                found = [
                    exponential_choice(row, event.choice_epsilon, event.sensitivity, entropy=self._entropy)
                    for row in table
                ]
                last = table.shape[1] - 1 if floor is not None else -1
                chosen.append([-1 if at == last else at for at in found])
            return chosen

        return self._kept.buy(name, self._ledger, ask)

    def units(self, frame: Any, encoder: Any) -> np.ndarray:
        """The rows that were just read, encoded; once per encoder, since the table never changes. Private."""
        if self._encoded is None or self._encoded[0] is not encoder:
            self._encoded = encoder, encoder.encode(frame)
        return self._encoded[1]


def _digest(answer: Any) -> str:
    return hashlib.sha256(canonical(answer).encode()).hexdigest()
