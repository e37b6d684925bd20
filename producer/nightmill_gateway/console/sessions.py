"""Sessions of browsers: in Redis, with an end, and never with the key itself.

A session names the key that it was made with. The key is looked up for each request, so a session
ends when its key is revoked or expires.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Final

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.store.access_keys import AccessKeys

if TYPE_CHECKING:
    from nightmill_gateway.services import Services

MAX_FAILURES: Final = 10
"""Wrong keys that one address may try within LOGIN_TTL_MS."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Sessions:
    """The sessions of one Redis. Every method raises QueueUnavailableError when Redis is away."""

    def __init__(self, services: Services) -> None:
        """Use connections that are open while this is used."""
        self._redis = services.redis
        self._keys = AccessKeys(services.store)
        self._secret: bytes | None = None

    async def begin(self, key_id: str) -> str:
        """Return the id of a new session of a key. Redis has only a digest of it."""
        session = secrets.token_urlsafe(32)
        with redis_errors():
            await self._redis.set(_key(session), key_id, px=keys.SESSION_TTL_MS)
        return session

    async def key_id(self, session: str) -> str | None:
        """Return the key's id of a session, and prolong it; None when there is none."""
        if not _ID.fullmatch(session):
            return None
        with redis_errors():
            found = await self._redis.getex(_key(session), px=keys.SESSION_TTL_MS)
        return None if found is None else bytes(found).decode()

    async def end(self, session: str) -> None:
        """End a session."""
        with redis_errors():
            await self._redis.delete(_key(session))

    async def token(self, session: str) -> str:
        """Return what forms of this session must send, so that no page of another site acts.

        Without sessions, `session` is "".
        """
        if self._secret is None:
            self._secret = await self._keys.secret()
        return hmac.new(self._secret, b"csrf:" + session.encode(), hashlib.sha256).hexdigest()

    async def tried(self, address: str) -> bool:
        """Note that an address tries a key; tell whether it may.

        Noted before the key is looked at: else many tries at the same time would all pass.
        """
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.incr(keys.LOGINS + address)
                pipe.pexpire(keys.LOGINS + address, keys.LOGINS_TTL_MS)
                count, _ = await pipe.execute()
        return int(count) <= MAX_FAILURES

    async def succeeded(self, address: str) -> None:
        """Note that the key was right: it does not count as a try."""
        with redis_errors():
            await self._redis.decr(keys.LOGINS + address)


def _key(session: str) -> str:
    return keys.SESSION + hashlib.sha256(session.encode()).hexdigest()
