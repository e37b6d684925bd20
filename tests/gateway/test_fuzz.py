"""Requests of every kind of nonsense: no 500, and every error in the API's envelope."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from tests.gateway.batches.made import request
from tests.gateway.door import opened

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

REQUESTS: Final = 1_000
PATHS: Final = (
    *("/v1/messages", "/v1/messages/batches", "/v1/messages/batches/{}", "/v1/jobs"),
    *("/v1/messages/batches/{}/cancel", "/v1/messages/batches/{}/results", "/v1/jobs/{}"),
    *("/", "//", "/v1/%", "/v1/../x", "/healthz", "/v1/messages/batches?limit=%FF&limit=1"),
    *("/v1/messages/batches?after_id=%00", "/v1/messages/batches?before_id={}"),
)
IDS: Final = (
    *("x", "%00", "%FF", "a:b", "..", "%2F", "default%2Fa", "a%0Ab", "a" * 5000, "%F0%9F%98%80"),
    "msgbatch_" + "0" * 32,
)
HEADERS: Final = (
    *("anthropic-version", "anthropic-beta", "idempotency-key", "x-stainless-retry-count"),
    *("accept", "x-forwarded-proto", "origin", "content-encoding"),
)
VALUES: Final = ("", "x", "1", "gzip", "2023-06-01", "a,b", "9" * 400, "-1")
TYPES: Final = ("application/json",) * 9 + ("text/plain", "application/json; charset=utf-16", "")
PLAIN: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**63, 10**30, 1e308, "", "a", "\x00", "\ud800", "x" * 70),
    *("é", "$file", "claude-opus-4-6", [], {}, [[]], {"": 1}, {"$file": "/etc/passwd"}),
)


def mutated(chance: random.Random, value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return `value` with one part of it replaced."""
    whole = json.loads(json.dumps({"": value}))
    part: Any = whole
    while True:
        key = chance.choice(list(part) if isinstance(part, dict) else range(len(part)))
        inner = part[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            part[key] = chance.choice(PLAIN)
            return whole[""]
        part = inner


def body(chance: random.Random) -> bytes:
    """Return a body that is nearly right."""
    params = request(1)["params"]
    bases: list[Any] = [
        {"requests": [request(1), request(2)], "nightmill": {"expires_in": 5}},
        {**params, "stream": chance.random() < 0.3},
        {"params": params, "id": "a", "batch": "b", "wait": 0.01},
    ]
    data = json.dumps(mutated(chance, chance.choice(bases))).encode("utf-8", "surrogatepass")
    kind = chance.random()
    if kind < 0.05:
        return data[: chance.randrange(len(data) + 1)]
    if kind < 0.1:
        return data.replace(b"1", chance.choice((b"NaN", b"1" + b"0" * 5000)))
    return b"[" * 100_000 if kind < 0.11 else data


async def sent(door: Door, number: int) -> int:
    """Send one request and return the status; 0: the connection was closed during the upload."""
    chance = random.Random(number)
    path = chance.choice(PATHS).format(chance.choice(IDS))
    method = chance.choice(("GET", "POST", "POST", "POST", "DELETE", "PUT", "OPTIONS"))
    headers = {"x-api-key": door.key, "content-type": chance.choice(TYPES)}
    if chance.random() < 0.3:
        headers[chance.choice(HEADERS)] = chance.choice(VALUES)
    data = None if method in {"GET", "OPTIONS"} else body(chance)
    if data is not None and headers.get("content-encoding") == "gzip" and chance.random() < 0.5:
        data = gzip.compress(data)
    upload = None if data is None else io.BytesIO(data)
    url = URL(door.url + path, encoded=True)
    try:
        async with door.session.request(method, url, headers=headers, data=upload) as answer:
            content = await answer.read()
    except aiohttp.ClientOSError:
        return 0
    what = (number, method, path, headers, data, content)
    assert answer.status not in {500, 502}, what
    assert answer.status < 400 or json.loads(content)["type"] == "error", what
    return answer.status


async def test_no_request_is_a_defect(rig: Rig) -> None:
    """Whatever a client sends: it learns what is wrong, and other clients are served."""
    settings = rig.settings.model_copy(update={"max_wait_s": 1})
    async with opened(settings) as door:
        at_once = asyncio.Semaphore(20)

        async def one(number: int) -> int:
            async with at_once:
                return await sent(door, number)

        statuses = Counter(await asyncio.gather(*map(one, range(REQUESTS))))
        assert {200, 400, 404, 405, 415} <= statuses.keys()
        assert statuses[0] < REQUESTS / 20
        assert (await door("GET", "/readyz")).status == 200
