"""nginx and Caddy before the simulator: real proxies that keep, limit and close connections."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from nightmill_worker.messages.outcome import Reply
from nightmill_worker.simulator import Simulator, SimulatorConfig
from tests.real_proxies import PROGRAMS, running
from tests.redis_servers import free_port
from tests.worker.http.servers import client
from tests.worker.messages.endpoint import PARAMS

REFUSALS: Final = {"nginx": 413, "caddy": 502}
"""Their statuses for a body that is too large; Caddy notices it while it passes the body on."""
CALLS: Final = 400
IN_FLIGHT: Final = 100
SERVERS: Final = {
    "nginx": """
    keepalive_requests 3;
    client_max_body_size 1m;
    upstream simulator {{ server {at}; keepalive 50; }}
    server {{
        listen 127.0.0.1:{port} ssl backlog=1000;
        ssl_certificate {tls}/good.pem;
        ssl_certificate_key {tls}/good.key;
        location / {{
            proxy_pass http://simulator;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
""",
    "caddy": """
https://localhost:{port} {{
    tls {tls}/good.pem {tls}/good.key
    request_body {{
        max_size 1MB
    }}
    reverse_proxy {at}
}}
""",
}


@asynccontextmanager
async def proxied(name: str, folder: Path, tls: Path, simulator: str) -> AsyncIterator[str]:
    """Run a proxy before the simulator; yield its URL."""
    if PROGRAMS[name] is None:
        pytest.skip(f"no {name} here")
    port, at = free_port(), simulator.removeprefix("http://")
    async with running(name, folder, SERVERS[name].format(port=port, tls=tls, at=at), port):
        yield f"https://localhost:{port}"


@pytest.mark.parametrize("name", ["nginx", "caddy"])
async def test_calls_by_a_real_proxy_are_each_answered_once(
    name: str, tmp_path: Path, trusted: Path
) -> None:
    """Here nginx closes a connection after 3 requests; both refuse a body of more than 1 MB."""
    async with (
        Simulator(SimulatorConfig(latency_s=0.02)) as sim,
        proxied(name, tmp_path, trusted, sim.url) as url,
        client(url) as calls,
    ):
        statuses: Counter[int | str] = Counter()
        todo = iter(range(CALLS))

        async def run() -> None:
            for n in todo:
                large = n % 40 == 7
                text = f"call {n} " + "x" * ((3 << 20) if large else 0)
                reply = await calls.send(PARAMS.replace(b"hi", text.encode()))
                if not isinstance(reply, Reply):
                    statuses[reply.kind] += 1
                    continue
                statuses[reply.status] += 1
                if not large:
                    assert json.loads(reply.body)["type"] == "message"

        await asyncio.gather(*(run() for _ in range(IN_FLIGHT)))
        refused = len(range(7, CALLS, 40))
        assert statuses == {200: CALLS - refused, REFUSALS[name]: refused}
        assert (sim.ledger.statuses[200], sim.ledger.answered_more_than_once) == (statuses[200], 0)
