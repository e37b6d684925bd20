"""The keys of the HTTP gateway: who may call it. The store has their digests, never the keys.

A digest is an HMAC of the whole key with a secret of this store. A key has 256 random bits, so that
a slow hash would protect it no better.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.access_key import AccessKey
from nightmill.records.key_limits import NO_LIMITS, KeyLimits
from nightmill.store.connection import ANSWER_S
from nightmill.store.schema import ACCESS_KEYS

if TYPE_CHECKING:
    from nightmill.store.connection import Connection, Database, Row
    from nightmill.store.store import ResultStore

META_ROW: Final = "key_secret"
"""Row of `meta`: the secret of the digests, hex."""
_ALL: Final = ", ".join(ACCESS_KEYS)
_ADD: Final = f"INSERT INTO access_keys ({_ALL}) VALUES ({', '.join(f':{n}' for n in ACCESS_KEYS)})"
_REVOKE: Final = (
    "UPDATE access_keys SET revoked_at = :at WHERE key_id = :key_id AND revoked_at IS NULL"
)
_CHANGE: Final = (
    "UPDATE access_keys SET limits = :limits, expires_at = :expires_at "
    "WHERE key_id = :key_id AND revoked_at IS NULL"
)
_ADD_ROW: Final = "INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING"


class AccessKeys:
    """The keys in one results store. Every method raises what the store's methods raise."""

    def __init__(self, store: ResultStore) -> None:
        """Use a store that the caller closes."""
        self._database: Database = store.database

    async def secret(self) -> bytes:
        """Return the secret of the digests; the first call makes it."""
        found = await self._database.run(_secret, within_s=ANSWER_S)
        if found is None:
            await self._database.run(_make_secret, write=True, within_s=ANSWER_S)
            found = await self._database.run(_secret, within_s=ANSWER_S)
        return bytes.fromhex(found or "")

    async def add(self, key: AccessKey) -> None:
        """Store a new key."""
        await self._database.run(partial(_add, key=key), write=True, within_s=ANSWER_S)

    async def get(self, key_id: str) -> AccessKey | None:
        """Return the key with this id, also one that is revoked or expired."""
        found = await self._database.glance(partial(_read, key_id=key_id))
        return next(iter(found), None)

    async def all(self) -> list[AccessKey]:
        """Return all keys, the oldest first."""
        return await self._database.run(_read, within_s=ANSWER_S)

    async def change(self, key_id: str, limits: KeyLimits, expires_at: int | None) -> bool:
        """Give a key other limits and another end; return whether it was there and not revoked."""
        work = partial(_change, key_id=key_id, limits=limits, expires_at=expires_at)
        return await self._database.run(work, write=True, within_s=ANSWER_S)

    async def revoke(self, key_id: str, at_ms: int) -> bool:
        """Refuse a key from now on; return whether it was there and not revoked."""
        work = partial(_revoke, key_id=key_id, at_ms=at_ms)
        return await self._database.run(work, write=True, within_s=ANSWER_S)


def digest_of(secret: bytes, key: str) -> str:
    """Return what the store keeps of `key`, hex."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()


def _secret(connection: Connection) -> str | None:
    rows = connection.rows("SELECT value FROM meta WHERE name = :name", {"name": META_ROW})
    return str(rows[0][0]) if rows else None


def _make_secret(connection: Connection) -> None:
    connection.change(_ADD_ROW, {"name": META_ROW, "value": secrets.token_hex(32)})


def _add(connection: Connection, key: AccessKey) -> None:
    connection.change(_ADD, {**msgspec.structs.asdict(key), "limits": _stored(key.limits)})


def _read(connection: Connection, key_id: str | None = None) -> list[AccessKey]:
    where = "" if key_id is None else "WHERE key_id = :key_id"
    rows = connection.named(
        f"SELECT {_ALL} FROM access_keys {where} ORDER BY created_at, key_id",
        {} if key_id is None else {"key_id": key_id},
    )
    return [_key_of(row) for row in rows]


def _key_of(row: Row) -> AccessKey:
    limits = row["limits"]
    found = NO_LIMITS if limits is None else msgspec.json.decode(str(limits), type=KeyLimits)
    return msgspec.convert(
        {**{name: row[name] for name in ACCESS_KEYS}, "limits": found}, AccessKey
    )


def _stored(limits: KeyLimits) -> str | None:
    return None if limits == NO_LIMITS else msgspec.json.encode(limits).decode()


def _change(connection: Connection, key_id: str, limits: KeyLimits, expires_at: int | None) -> bool:
    values = {"key_id": key_id, "limits": _stored(limits), "expires_at": expires_at}
    return connection.change(_CHANGE, values) > 0


def _revoke(connection: Connection, key_id: str, at_ms: int) -> bool:
    return connection.change(_REVOKE, {"key_id": key_id, "at": at_ms}) > 0
