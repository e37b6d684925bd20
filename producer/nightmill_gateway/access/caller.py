"""From a request to its caller: by key, or on this machine alone without one."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from nightmill.records.access_key import AccessKey, Role
from nightmill.records.job import now_ms
from nightmill.records.key_limits import NO_LIMITS, KeyLimits
from nightmill.store.access_keys import AccessKeys, digest_of
from nightmill_gateway.access.key import id_of, key_in
from nightmill_gateway.answers.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TENANT: Final = "default"
"""The tenant of keys that are made without one, and of callers without a key."""
ALL: Final = "*"
"""In place of a tenant: a key of the console that sees the batches of all tenants."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
READS: Final = frozenset({"GET", "HEAD"})
_WRONG_KEY: Final = (
    "the key is not valid: send one of `nightmill keys create` as x-api-key, or as "
    "Authorization: Bearer"
)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls: the tenant whose batches and jobs it reaches, and what it may do."""

    tenant: str
    role: Role
    key_id: str = ""
    """The id of its key; "" on this machine without keys."""
    name: str = ""
    """What the key is for."""
    limits: KeyLimits = NO_LIMITS

    @property
    def payer(self) -> str | None:
        """The key whose budget pays for its jobs; None without one."""
        return self.key_id if self.limits.budget is not None else None

    @property
    def operates(self) -> bool:
        """Whether it may control batches."""
        return self.role == "operator"

    def require(self, method: str) -> None:
        """Raise ApiError when this role may not use the method."""
        if self.role == "viewer" and method not in READS:
            raise ApiError(403, "this key may only read: use one with the role service")

    def require_betas(self, betas: Collection[str]) -> None:
        """Raise ApiError when the key may not ask for one of these betas."""
        allowed = self.limits.betas
        others = [] if allowed is None else [name for name in betas if name not in allowed]
        if others and allowed is not None:
            text = ", ".join(allowed) or "none with this key"
            raise ApiError(403, f"anthropic-beta: given {', '.join(others):.200}; allowed: {text}")

    def require_operator(self) -> None:
        """Raise ApiError when this role may not control batches, as the console does."""
        if not self.operates:
            raise ApiError(
                403, f"this key has the role {self.role}: use one with the role operator"
            )


CALLER: Final = web.RequestKey("caller", Caller)
"""The key in a request of its Caller."""


class Access(Protocol):
    """Decides who calls."""

    by_key: bool
    """Whether a key is needed."""

    async def holder(self, headers: Mapping[str, str], key_id: str) -> Caller:
        """Return who opened a session of the console with this key. Raises ApiError."""
        ...

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return who sent a request with these headers. Raises ApiError."""
        ...

    async def any(self) -> bool:
        """Tell whether anybody can call."""
        ...


class ByKey:
    """A request needs a key that is neither revoked nor expired."""

    by_key = True

    def __init__(self, keys: AccessKeys, secret: bytes) -> None:
        """Take the keys, and the secret of their digests."""
        self._keys = keys
        self._secret = secret

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller of a valid key. A revoked key is refused with its next request."""
        given = key_in(headers)
        if not given:
            raise ApiError(401, f"no key: {_WRONG_KEY}")
        key_id = id_of(given)
        stored = None if key_id is None else await self._keys.get(key_id)
        digest = digest_of(self._secret, given)
        same = hmac.compare_digest(digest, stored.digest if stored else "0" * len(digest))
        if stored is None or not same or not stored.valid(now_ms()):
            raise ApiError(401, _WRONG_KEY)
        return _caller_of(stored)

    async def holder(self, headers: Mapping[str, str], key_id: str) -> Caller:
        """Return the caller with a key whose session this is. A revoked key ends it."""
        del headers
        stored = await self._keys.get(key_id)
        if stored is None or not stored.valid(now_ms()):
            raise ApiError(401, _WRONG_KEY)
        return _caller_of(stored)

    async def any(self) -> bool:
        """Tell whether there is a key."""
        return bool(await self._keys.all())


def _caller_of(stored: AccessKey) -> Caller:
    return Caller(
        tenant=stored.tenant,
        role=stored.role,
        key_id=stored.key_id,
        name=stored.name,
        limits=stored.limits,
    )


class OnThisMachine:
    """Anybody on this machine, without a key; no page of a browser.

    A page of another site may send requests here, also under a name that leads to this address: so
    Host must be a name of this machine, and Origin, if there is one, the gateway itself.
    """

    by_key = False

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the default tenant's caller."""
        host = headers.get("host", "")
        if name_of(f"//{host}") not in LOOPBACK:
            raise ApiError(403, "Host must be localhost, 127.0.0.1 or [::1] without keys")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise ApiError(403, "Origin must be the gateway itself without keys")
        return Caller(tenant=TENANT, role="operator")

    async def holder(self, headers: Mapping[str, str], key_id: str) -> Caller:
        """Return the caller of the console, who sees all tenants."""
        del key_id
        return msgspec.structs.replace(await self.caller(headers), tenant=ALL)

    async def any(self) -> bool:
        """Return True: anyone on this machine may call."""
        return True


def name_of(url: str) -> str:
    """Return the host in a URL, "" when it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
