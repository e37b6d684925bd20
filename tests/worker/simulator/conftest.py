"""Fixtures: a client session, and a call of the simulated endpoint."""

import io
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from nightmill_worker.simulator import Simulator
from tests.worker.simulator.helpers import HEADERS, Ask, Reply, params


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client session without a limit on connections."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        yield client


@pytest.fixture
def ask(session: aiohttp.ClientSession) -> Ask:
    """Return a function that calls the Messages endpoint and reads the whole answer."""

    async def call(
        sim: Simulator,
        *,
        headers: dict[str, str] = HEADERS,
        raw: bytes | None = None,
        **fields: object,
    ) -> Reply:
        body = msgspec.json.encode(params(**fields)) if raw is None else raw
        url = f"{sim.url}/v1/messages"
        async with session.post(url, data=io.BytesIO(body), headers=headers) as response:
            return Reply(response.status, response.headers, await response.read())

    return call
