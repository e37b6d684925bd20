"""The keys of the gateway, over both databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nightmill.records.access_key import AccessKey
from nightmill.store.access_keys import AccessKeys, digest_of
from tests.producer.store.databases import OnPostgreSQL, OnSQLite

if TYPE_CHECKING:
    from nightmill.store import ResultStore

KEY = AccessKey(
    key_id="nm_1", digest="d", name="漢字", role="viewer", tenant="a", created_at=5, expires_at=7
)


class Conformance:
    """The tests; a subclass says where the store is."""

    async def test_a_key_comes_back_as_it_was_stored(self, store: ResultStore) -> None:
        """Another gateway reads it."""
        keys = AccessKeys(store)
        await keys.add(KEY)
        assert await keys.get("nm_1") == KEY
        assert await keys.all() == [KEY]
        assert await keys.get("nm_2") is None

    async def test_a_key_is_revoked_once(self, store: ResultStore) -> None:
        """The time of the first revocation stays."""
        keys = AccessKeys(store)
        await keys.add(KEY)
        assert await keys.revoke("nm_1", 6)
        assert not await keys.revoke("nm_1", 9)
        assert not await keys.revoke("nm_2", 9)
        found = await keys.get("nm_1")
        assert found is not None
        assert found.revoked_at == 6
        assert not found.valid(5)

    async def test_all_gateways_have_one_secret(self, store: ResultStore) -> None:
        """A key that one of them made must open the others."""
        first, second = await asyncio.gather(AccessKeys(store).secret(), AccessKeys(store).secret())
        assert first == second == await AccessKeys(store).secret()
        assert len(first) == 32


class TestSQLite(OnSQLite, Conformance):
    """The store of one machine."""


class TestPostgreSQL(OnPostgreSQL, Conformance):
    """The store of many machines."""


def test_a_key_ends_at_its_time() -> None:
    """The end is the first moment in which it is refused."""
    assert KEY.valid(6)
    assert not KEY.valid(7)


def test_a_digest_depends_on_key_and_secret() -> None:
    """Without the secret, a digest of a known key cannot be looked for."""
    assert len({digest_of(b"s", "a"), digest_of(b"s", "b"), digest_of(b"t", "a")}) == 3
