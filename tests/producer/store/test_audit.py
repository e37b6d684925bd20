"""The audit log, over both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.store.audit import AuditLine, AuditLog, new_id
from tests.producer.store.databases import OnPostgreSQL, OnSQLite

if TYPE_CHECKING:
    from nightmill.store import ResultStore


def line(at: int, tenant: str = "a", target: str = "a/x", detail: str = "") -> AuditLine:
    """Return a line of an action that runs."""
    return AuditLine(
        id=new_id(at),
        at=at,
        tenant=tenant,
        key_id="nm_1",
        who="漢字",
        action="pause",
        target=target,
        detail=detail,
    )


class Conformance:
    """The tests; a subclass says where the store is."""

    async def test_lines_come_back_the_newest_first(self, store: ResultStore) -> None:
        """What was done last is looked for first, and an outcome may come much later."""
        log = AuditLog(store)
        old, new = line(1), line(2_000_000_000_000)
        await log.begin([new, old])
        await log.end({old.id: "paused"})
        done = msgspec.structs.replace(old, outcome="paused")
        assert await log.page(9, tenant=None, target=None, before=None) == [new, done]
        assert await log.page(9, tenant=None, target=None, before=new.id) == [done]
        assert await log.page(1, tenant=None, target=None, before=None) == [new]

    async def test_lines_of_one_tenant_or_thing(self, store: ResultStore) -> None:
        """A tenant sees what was done to its things only."""
        log = AuditLog(store)
        mine, other = line(1), line(2, "b", "b/x")
        await log.begin([mine, other])
        assert await log.page(9, tenant="a", target=None, before=None) == [mine]
        assert await log.page(9, tenant=None, target="b/x", before=None) == [other]
        assert await log.page(9, tenant="a", target="b/x", before=None) == []

    async def test_any_text_is_stored(self, store: ResultStore) -> None:
        """An error text of an endpoint must not keep an action from its line."""
        log = AuditLog(store)
        odd = line(1, target="x\0\ud800", detail="y" * 10_000)
        await log.begin([odd])
        await log.end({odd.id: "\0" * 5_000})
        (found,) = await log.page(9, tenant=None, target="x\0\ud800", before=None)
        assert len(found.detail) == 2_000


class TestSQLite(OnSQLite, Conformance):
    """SQLite."""


class TestPostgreSQL(OnPostgreSQL, Conformance):
    """PostgreSQL."""
