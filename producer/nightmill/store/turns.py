"""The SQL of turns: paid answers of jobs that have not ended.

The transaction that stores a job's row deletes its turns. Those that the row's usage has not are
added to what was spent, so that nothing that was paid is lost or counted twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.records.message import NULL, is_null
from nightmill.records.result import Bill, Usage
from nightmill.records.turn import Turn
from nightmill.store.among import AMONG, bound
from nightmill.store.bounds import batch_key, bounded_fields, clean, job_key, without_nul
from nightmill.store.schema import TURNS
from nightmill.store.spending import Ledger, Spent, minus, spent_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nightmill.records.result import Result
    from nightmill.store.connection import Connection, Row

_ALL: Final = ", ".join(TURNS)
# A turn that comes after its job's row, or in the place of another one, is not stored.
_ADD: Final = (
    f"INSERT INTO turns ({_ALL}) SELECT "
    + ", ".join(f"CAST(:{name} AS {kind.split()[0]})" for name, kind in TURNS.items())
    + " WHERE NOT EXISTS (SELECT 1 FROM results WHERE job_id = :job_id AND run >= :run)"
    " ON CONFLICT DO NOTHING"
)
_READ: Final = {
    dialect: f"SELECT {_ALL} FROM turns WHERE {among} ORDER BY job_id, run, n"
    for dialect, among in AMONG.items()
}
_DELETE: Final = "DELETE FROM turns WHERE job_id = :job_id AND run = :run AND n = :n"
_usage = msgspec.json.Decoder(Usage)
_bill = msgspec.json.Decoder(Bill)


def add(connection: Connection, turns: Sequence[Turn]) -> None:
    """Store turns; what cannot be a turn any more counts as spent."""
    ledger = Ledger()
    for turn in turns:
        if connection.change(_ADD, _values(turn)):
            continue
        there = read(connection, [turn.job_id]).get(turn.job_id, ())
        if not any((each.run, each.n, each.at) == (turn.run, turn.n, turn.at) for each in there):
            ledger.add(turn.batch, spent_on_turn(turn))
    ledger.write(connection)


def read(connection: Connection, ids: Sequence[str]) -> dict[str, list[Turn]]:
    """Return job id -> its turns in their order, for those of `ids` that have some."""
    keys = {job_key(job_id): job_id for job_id in ids}
    found: dict[str, list[Turn]] = {}
    values = {"ids": bound(connection, keys)}
    for row in connection.named(_READ[connection.dialect], values):
        job_id = keys[row["job_id"]]
        found.setdefault(job_id, []).append(_turn(row, job_id))
    return found


def settle(connection: Connection, wave: Mapping[str, Result], ledger: Ledger) -> None:
    """Delete the turns of jobs whose rows were stored; `wave` has the rows by key."""
    values = {"ids": bound(connection, wave)}
    for row in connection.named(_READ[connection.dialect], values):
        turn, ended = _turn(row, row["job_id"]), wave[row["job_id"]]
        if turn.run > ended.run:
            continue
        connection.change(_DELETE, {name: row[name] for name in ("job_id", "run", "n")})
        if turn.run < ended.run or turn.n > ended.turns:
            ledger.add(turn.batch, spent_on_turn(turn))


def abandon(connection: Connection, turns: Sequence[Turn]) -> None:
    """Delete turns of a job that does not go on from them; they count as spent."""
    ledger = Ledger()
    for turn in turns:
        key = {"job_id": job_key(turn.job_id), "run": turn.run, "n": turn.n}
        if connection.change(_DELETE, key):
            ledger.add(turn.batch, spent_on_turn(turn))
    ledger.write(connection)


def spent(connection: Connection, batch: str) -> Spent:
    """Return what the turns of the jobs of `batch` used that have not ended."""
    query = f"SELECT {_ALL} FROM turns WHERE batch = :batch"
    rows = connection.named(query, {"batch": batch_key(batch)})
    return sum((spent_on_turn(_turn(row, row["job_id"])) for row in rows), Spent())


def forget(connection: Connection, batch: str) -> None:
    """Delete the turns of `batch`, which is forgotten."""
    connection.change("DELETE FROM turns WHERE batch = :batch", {"batch": batch_key(batch)})


def spent_on_turn(turn: Turn) -> Spent:
    """Return what one turn used."""
    return Spent(usage=turn.usage, cost=turn.cost or 0.0, unpriced=int(turn.cost is None))


def spent_on_last(row: Result) -> Spent:
    """Return what the last answer of a row used: another row has its turns."""
    if not row.turns:
        return spent_on(row)
    usage, cost = row.usage, row.cost or 0.0
    for attempt in row.attempts:
        if attempt.billed is not None:
            usage = minus(usage, attempt.billed)
            cost = max(0.0, cost - (attempt.cost or 0.0))
    return msgspec.structs.replace(spent_on(row), usage=usage, cost=cost)


def _values(turn: Turn) -> dict[str, object]:
    message = turn.message
    return {
        **msgspec.structs.asdict(turn),
        "job_id": job_key(turn.job_id),
        "batch": batch_key(turn.batch),
        "problem": turn.problem and clean(turn.problem),
        "message": None
        if is_null(message)
        else without_nul(bytes(message).decode("utf-8", "replace")),
        "usage": msgspec.json.encode(bounded_fields(turn.usage)).decode(),
        "usage_unknown": int(turn.usage_unknown),
        "bill": None if turn.bill is None else msgspec.json.encode(turn.bill).decode(),
    }


def _turn(row: Row, job_id: str) -> Turn:
    values: dict[str, Any] = {name: row[name] for name in TURNS}
    try:
        usage = _usage.decode(values["usage"])
        bill = None if values["bill"] is None else _bill.decode(values["bill"])
    except msgspec.MsgspecError:  # of another version
        usage, bill = Usage(), None
    message = values["message"]
    return Turn(
        **{
            **values,
            "job_id": job_id,
            "message": NULL if message is None else msgspec.Raw(message),
            "usage": usage,
            "bill": bill,
            "usage_unknown": bool(values["usage_unknown"]),
        }
    )
