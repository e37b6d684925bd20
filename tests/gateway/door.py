"""A gateway in the test's loop, over a rig, and a client of it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from nightmill.records.access_key import AccessKey, Role
from nightmill.records.job import now_ms
from nightmill.records.key_limits import NO_LIMITS, KeyLimits
from nightmill.store.access_keys import AccessKeys, digest_of
from nightmill_gateway.access.caller import ByKey
from nightmill_gateway.access.key import new_key
from nightmill_gateway.app import make_app
from nightmill_gateway.server import listening
from nightmill_gateway.services import open_services

if TYPE_CHECKING:
    from aiohttp import web

    from nightmill import Settings
    from nightmill_gateway.access.caller import Access
    from nightmill_gateway.services import Services


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    @property
    def error(self) -> tuple[int, str]:
        """The status and the type of an error, which must be in the API's envelope."""
        assert self.json["type"] == "error"
        assert self.json["request_id"] == self.headers["request-id"]
        assert self.json["error"]["message"]
        return self.status, self.json["error"]["type"]

    @property
    def message(self) -> str:
        """The text of an error."""
        return str(self.json["error"]["message"])


@dataclass
class Door:
    """A running gateway, and one client of it."""

    url: str
    services: Services
    session: aiohttp.ClientSession
    key: str
    app: web.Application

    async def __call__(  # noqa: PLR0913 - what a request has
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        data: object = None,
        json: object = None,
    ) -> Answer:
        """Send a request with `key`, the door's own unless given; "" sends none."""
        own = {"x-api-key": self.key if key is None else key, **(headers or {})}
        sent = {name: value for name, value in own.items() if value}
        url = self.url + path
        if json is not None:
            data = msgspec.json.encode(json)
            sent["content-type"] = "application/json"
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        async with self.session.request(method, url, headers=sent, data=data) as got:
            body = await got.read()
            has_json = got.content_type == "application/json"
            return Answer(
                status=got.status,
                headers={name.lower(): value for name, value in got.headers.items()},
                body=body,
                json=await got.json() if has_json else None,
            )

    async def key_of(
        self,
        tenant: str = "default",
        role: Role = "service",
        expires_at: int | None = None,
        limits: KeyLimits = NO_LIMITS,
    ) -> str:
        """Make a key and return it."""
        return await make_key(AccessKeys(self.services.store), tenant, role, expires_at, limits)


async def make_key(
    keys: AccessKeys,
    tenant: str = "default",
    role: Role = "service",
    expires_at: int | None = None,
    limits: KeyLimits = NO_LIMITS,
) -> str:
    """Store a new key and return it."""
    key_id, key = new_key()
    await keys.add(
        AccessKey(
            key_id=key_id,
            digest=digest_of(await keys.secret(), key),
            name="test",
            role=role,
            tenant=tenant,
            created_at=now_ms(),
            expires_at=expires_at,
            limits=limits,
        )
    )
    return key


@asynccontextmanager
async def opened(
    settings: Settings, *, access: Access | None = None, headers_s: float = 20
) -> AsyncIterator[Door]:
    """Run a gateway for the length of the block; by default its callers need keys."""
    async with open_services(settings) as services:
        keys = AccessKeys(services.store)
        app = make_app(services, access or ByKey(keys, await keys.secret()))
        async with (
            listening(app, "127.0.0.1", 0, grace_s=2, headers_s=headers_s) as url,
            aiohttp.ClientSession() as session,
        ):
            yield Door(url, services, session, await make_key(keys), app)
