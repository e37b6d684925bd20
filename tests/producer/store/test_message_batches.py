"""Batches of the gateway and their requests, over both databases."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from nightmill.records.message_batch import MessageBatch, StoredRequest
from nightmill.records.result import Attempt, ErrorInfo, Result
from nightmill.records.state import TERMINAL, JobState
from nightmill.store.message_batches import PAGE, MessageBatches
from tests.producer.store.databases import OnPostgreSQL, OnSQLite
from tests.producer.store.samples import SUCCEEDED

if TYPE_CHECKING:
    from nightmill.store import ResultStore
    from nightmill.store.connection import Connection

NEW = MessageBatch(
    batch="msgbatch_b",
    tenant="a",
    total=2,
    created_at=5,
    expires_at=7,
    anthropic_version="2023-06-01",
    anthropic_beta="x,y",
)


def request(seq: int) -> StoredRequest:
    """Return one request."""
    return StoredRequest(seq=seq, custom_id=f"c{seq}", model="m", body='{"é":"漢"}'.encode())


def named(name: str, tenant: str = "a") -> MessageBatch:
    """Return NEW with another name."""
    return msgspec.structs.replace(NEW, batch=name, tenant=tenant)


class Conformance:
    """The tests; a subclass says where the store is."""

    async def test_a_batch_is_there_with_one_commit(self, store: ResultStore) -> None:
        """Its requests were stored before, and are no batch by themselves."""
        batches = MessageBatches(store)
        await batches.stage("msgbatch_b", [request(1), request(2)])
        assert await batches.get("a", "msgbatch_b") is None
        assert await batches.unfinished() == []
        assert await batches.remains("n") == ["msgbatch_b"]
        await batches.add(NEW, named_since="")
        assert await batches.get("a", "msgbatch_b") == NEW
        assert await batches.get("b", "msgbatch_b") is None, "of another tenant"
        assert await batches.unfinished() == [NEW]
        assert await batches.remains("n") == []
        assert [page async for page in batches.requests("msgbatch_b")] == [[request(1), request(2)]]

    async def test_what_the_keeper_looks_for_is_found_by_an_index(self, store: ResultStore) -> None:
        """It must read neither all batches that were ever made nor each of their requests."""
        explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}
        plans: list[str] = []

        class Explained(NamedTuple):
            connection: Connection

            def named(self, query: str, values: dict[str, object]) -> list[dict[str, object]]:
                return self.rows(query, values)

            def rows(self, query: str, values: dict[str, object]) -> list[dict[str, object]]:
                dialect = self.connection.dialect
                if dialect == "postgresql":  # it reads a table of one page as a whole
                    self.connection.change("SET LOCAL enable_seqscan = off", {})
                rows = self.connection.rows(explain[dialect] + query, values)
                plans.append(str([tuple(row) for row in rows]))
                return []

        run = store.database.run

        async def explained(work: Callable[[object], object], **_: object) -> object:
            return await run(lambda connection: work(Explained(connection)), write=True)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store.database, "run", explained)
            assert await MessageBatches(store).unfinished() == []
            assert await MessageBatches(store).remains("n") == []
            assert await MessageBatches(store).named("n") is None
        assert "message_batches_unfinished" in plans[0]
        assert "message_batches_named" in plans[1]
        assert "message_batches_named" in plans[2]
        for plan in plans:
            assert not re.search(r"Seq Scan on (requests|message_batches)|SCAN (r|b)\b", plan), plan

    async def test_only_remains_that_are_new_are_looked_for(self, store: ResultStore) -> None:
        """Each of them once, however many requests it has, between two ids."""
        batches = MessageBatches(store)
        for name in ("a", "b", "c", "d"):
            await batches.stage(name, [request(seq) for seq in range(1, 4)])
        await batches.add(named("c"), named_since="")
        assert await batches.remains("z") == ["a", "b", "d"]
        assert await batches.remains("d", since="b") == ["b"]
        assert await batches.remains("b", since="b") == []

    async def test_a_create_that_is_sent_again_makes_one_batch(self, store: ResultStore) -> None:
        """By its key for a day, or once by its body when its answer may be lost."""
        batches = MessageBatches(store)

        async def add(name: str, key: str | None = None, lost_since: str | None = None) -> str:
            new = msgspec.structs.replace(named(name), digest="d", idempotency_key=key)
            found = await batches.add(new, named_since="b", lost_since=lost_since)
            return found.batch

        assert [await add("a", "k"), await add("c", "k"), await add("d", "k")] == ["a", "c", "c"]
        assert [await add("e"), await add("f")] == ["e", "f"], "not sent again: a new batch each"
        assert [await add(name, lost_since="a") for name in "ghi"] == ["e", "f", "i"]
        assert await add("j", lost_since="j") == "j", "the others are too old"
        await batches.answered(named("j"), 7)
        assert await add("l", lost_since="a") == "i"
        await batches.answered(named("i"), None)
        assert await add("m", lost_since="a") == "i", "its answer was lost again"

    async def test_requests_come_in_pages(self, store: ResultStore) -> None:
        """A page of them is in memory at a time."""
        batches = MessageBatches(store)
        all_of_them = [request(seq) for seq in range(1, 2 * PAGE + 2)]
        await batches.stage("b", all_of_them)
        pages = [page async for page in batches.requests("b")]
        assert list(map(len, pages)) == [PAGE, PAGE, 1]
        assert [each for page in pages for each in page] == all_of_them
        await batches.drop("b")
        assert await batches.remains("z") == []

    async def test_pages_of_one_tenant(self, store: ResultStore) -> None:
        """In the order of the ids, from either end."""
        batches = MessageBatches(store)
        for name in "acbed":
            await batches.add(named(name), named_since="")
        await batches.add(named("bb", "other"), named_since="")

        async def page(limit: int, **place: str) -> tuple[str, bool]:
            found, more = await batches.page("a", limit, **place)
            return "".join(each.batch for each in found), more

        assert await page(9) == ("edcba", False)
        assert await page(5) == ("edcba", False)
        assert await page(2) == ("ed", True)
        assert await page(2, after="d") == ("cb", True)
        assert await page(2, after="b") == ("a", False)
        assert await page(2, before="b") == ("dc", True)
        assert await page(2, before="d") == ("e", False)

    async def test_the_first_cancel_and_the_first_end_stay(self, store: ResultStore) -> None:
        """Two gateways may note them."""
        batches = MessageBatches(store)
        await batches.add(NEW, named_since="")
        rows = dict.fromkeys(sorted(TERMINAL), 0) | {JobState.SUCCEEDED: 2}
        for at in (8, 9):
            await batches.cancel(NEW, at)
            await batches.end(NEW, rows, at)
        found = await batches.get("a", "msgbatch_b")
        assert found is not None
        assert (found.cancel_initiated_at, found.ended_at, found.succeeded) == (8, 8, 2)
        assert (found.errored, found.canceled, found.expired) == (0, 0, 0)
        assert await batches.unfinished() == []

    async def test_a_deleted_batch_is_hidden_until_it_is_removed(self, store: ResultStore) -> None:
        """Its client gets the answer before all rows are gone."""
        batches = MessageBatches(store)
        await batches.stage("msgbatch_b", [request(1)])
        await batches.add(NEW, named_since="")
        await batches.delete(NEW, 9)
        assert await batches.get("a", "msgbatch_b") is None
        assert await batches.page("a", 9) == ([], False)
        (left,) = await batches.unfinished()
        await batches.remove(left)
        assert await batches.unfinished() == []
        assert [page async for page in batches.requests("msgbatch_b")] == []

    async def test_ends_are_read_in_order(self, store: ResultStore) -> None:
        """The lines of results come in the order of the requests."""
        failed = Result(
            job_id="night:z",
            batch="night",
            custom_id="z",
            seq=2,
            status=JobState.FAILED,
            error=ErrorInfo(type="t", message="m"),
            request_id="req_1",
            attempts=(Attempt(n=1, started_at=1, outcome="failed", status=400),),
        )
        first = msgspec.structs.replace(SUCCEEDED, batch="night", seq=1, custom_id="a")
        await store.record([failed, first])
        ((one, two),) = [page async for page in MessageBatches(store).ends("night")]
        assert (one.custom_id, one.status) == ("a", JobState.SUCCEEDED)
        assert one.message is not None
        assert two == ("z", JobState.FAILED, None, failed.error, "req_1", 400)


class TestSQLite(OnSQLite, Conformance):
    """The store of one machine."""


class TestPostgreSQL(OnPostgreSQL, Conformance):
    """The store of many machines."""
