"""The audit log of the web console: who acted on what, when, and with what outcome.

A line is stored before its action begins, so that no action is without one. A line without an
outcome belongs to an action that runs, or whose gateway died.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.store.bounds import clean
from nightmill.store.connection import ANSWER_S
from nightmill.store.schema import AUDIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nightmill.store.connection import Connection, Database
    from nightmill.store.store import ResultStore

_ALL: Final = ", ".join(AUDIT)
_ADD: Final = f"INSERT INTO audit ({_ALL}) VALUES ({', '.join(f':{name}' for name in AUDIT)})"
_END: Final = "UPDATE audit SET outcome = :outcome WHERE id = :id"
_LONGEST: Final = 2_000
"""Longest text of a line, characters."""


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """One action on one thing."""

    id: str
    """Ids sort by time."""
    at: int
    """When it began, epoch ms."""
    tenant: str
    """Whose thing it was; "*" when it was all tenants'."""
    key_id: str
    """The key of who acted; "" on a machine without keys."""
    who: str
    """The name of that key."""
    action: str
    target: str
    """The batch, job, account or lane."""
    detail: str = ""
    outcome: str | None = None


def new_id(at_ms: int) -> str:
    """Return the id of a line."""
    return f"{at_ms:015}-{secrets.token_hex(6)}"


class AuditLog:
    """The lines of one store. Every method raises what the store's methods raise."""

    def __init__(self, store: ResultStore) -> None:
        """Use a store that the caller closes."""
        self._database: Database = store.database

    async def begin(self, lines: Sequence[AuditLine]) -> None:
        """Store lines, before their actions begin."""
        await self._database.run(partial(_add, lines=lines), write=True, within_s=ANSWER_S * 3)

    async def end(self, outcomes: Mapping[str, str]) -> None:
        """Store the outcomes of actions, by the ids of their lines."""
        work = partial(_end, outcomes=outcomes)
        await self._database.run(work, write=True, within_s=ANSWER_S * 3)

    async def page(
        self, limit: int, *, tenant: str | None, target: str | None, before: str | None
    ) -> list[AuditLine]:
        """Return the newest lines, of a tenant, about a target, and older than the line `before`.

        What is None does not matter.
        """
        work = partial(_page, limit=limit, tenant=tenant, target=target, before=before)
        return await self._database.run(work, within_s=ANSWER_S)


def _add(connection: Connection, lines: Sequence[AuditLine]) -> None:
    for line in lines:
        values = msgspec.structs.asdict(line)
        for name in ("who", "action", "target", "detail"):
            values[name] = clean(values[name][:_LONGEST])
        connection.change(_ADD, values)


def _end(connection: Connection, outcomes: Mapping[str, str]) -> None:
    for line, outcome in outcomes.items():
        connection.change(_END, {"id": line, "outcome": clean(outcome[:_LONGEST])})


def _page(
    connection: Connection, limit: int, tenant: str | None, target: str | None, before: str | None
) -> list[AuditLine]:
    wanted = {
        "tenant": ("tenant = :tenant", tenant),
        "target": ("target = :target", target),
        "before": ("id < :before", before),
    }
    given = {name: pair for name, pair in wanted.items() if pair[1] is not None}
    where = " AND ".join(["true", *(condition for condition, _ in given.values())])
    rows = connection.named(
        f"SELECT {_ALL} FROM audit WHERE {where} ORDER BY id DESC LIMIT {limit}",
        {name: clean(str(value)) for name, (_, value) in given.items()},
    )
    return [msgspec.convert({name: row[name] for name in AUDIT}, AuditLine) for row in rows]
