"""What answers used that are no rows any more, so that what a batch has spent only adds up.

They are of replaced runs, of jobs that were answered twice, and of rows that were pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.pricing.cost import cost
from nightmill.records.result import COUNTS, TOKENS, Usage
from nightmill.records.state import JobState
from nightmill.store.bounds import batch_key, bounded_fields
from nightmill.store.schema import SPENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nightmill.records.result import Result
    from nightmill.store.connection import Connection, Row

_ADD: Final = (
    f"INSERT INTO spent ({', '.join(SPENT)}) VALUES ({', '.join(f':{name}' for name in SPENT)}) "
    "ON CONFLICT (batch) DO UPDATE SET "
    + ", ".join(f"{name} = spent.{name} + excluded.{name}" for name in SPENT if name != "batch")
)
_READ: Final = f"SELECT {', '.join(SPENT)} FROM spent WHERE batch = :batch"


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and US dollars of a batch, summed over `answers`; `unpriced` have no known price."""

    usage: Usage = Usage()
    cost: float = 0.0
    unpriced: int = 0
    answers: int = 0

    def __add__(self, other: Spent) -> Spent:
        """Return the sum of both."""
        return Spent(
            usage=self.usage + other.usage,
            cost=self.cost + other.cost,
            unpriced=self.unpriced + other.unpriced,
            answers=self.answers + other.answers,
        )


def minus(usage: Usage, part: Usage) -> Usage:
    """Return `usage` without `part` of it."""
    rest = {n: max(0, getattr(usage, n) - getattr(part, n)) for n in COUNTS}
    return msgspec.structs.replace(usage, **rest)


def spent_on(row: Result) -> Spent:
    """Return what one row's answer used."""
    return Spent(
        usage=row.usage,
        cost=row.cost or 0.0,
        unpriced=int(row.cost is None),
        answers=int(row.status is JobState.SUCCEEDED),
    )


def spent_on_calls(row: Result) -> Spent:
    """Return what the calls of a row's run used that broke off, as far as they reported it."""
    total = Spent()
    for attempt in row.attempts:
        if attempt.usage is not None:
            price = attempt.cost
            if price is None:  # of a worker that did not price its calls, or not known
                price = cost(row.model, attempt.usage)
            total += Spent(usage=attempt.usage, cost=price or 0.0, unpriced=int(price is None))
    return total


class Ledger:
    """What one transaction adds for each batch; written at its end, in the order of the names.

    So two transactions never wait for each other in a circle.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._sums: dict[str, Spent] = {}

    def add(self, batch: str | None, spent: Spent) -> None:
        """Add what an answer used that is no row, or will be none."""
        if spent != Spent():
            self._sums[batch or ""] = self._sums.get(batch or "", Spent()) + spent

    def write(self, connection: Connection) -> None:
        """Write the sums."""
        for batch, spent in sorted(self._sums.items()):
            connection.change(_ADD, _values(batch, spent))


def _values(batch: str, spent: Spent) -> Mapping[str, object]:
    tokens = {name: float(getattr(spent.usage, name)) for name in TOKENS}
    about = {"cost": spent.cost, "unpriced": spent.unpriced, "answers": spent.answers}
    return {"batch": batch_key(batch), **tokens, **about}


def read(connection: Connection, batch: str) -> Spent:
    """Return what was added for `batch`."""
    rows = connection.named(_READ, {"batch": batch_key(batch)})
    return of_row(rows[0]) if rows else Spent()


def of_row(row: Row) -> Spent:
    """Return sums in a row, as SPENT names them."""
    usage = bounded_fields(
        msgspec.structs.replace(Usage(), **{name: int(row[name] or 0) for name in TOKENS})
    )
    return Spent(
        usage=usage,
        cost=float(row["cost"] or 0),
        unpriced=int(row["unpriced"]),
        answers=int(row["answers"]),
    )


def forget(connection: Connection, batch: str) -> None:
    """Forget `batch`, which has no rows any more."""
    connection.change("DELETE FROM spent WHERE batch = :batch", {"batch": batch_key(batch)})


def add_all(ledger: Ledger, sums: Iterable[Row]) -> None:
    """Add sums of rows that are deleted, each of one batch."""
    for row in sums:
        ledger.add(row["batch"], of_row(row))
