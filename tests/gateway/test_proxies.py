"""nginx and Caddy in front of a gateway, with the blocks of docs/gateway.md as they stand there."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.gateway.batches.made import PATH, request
from tests.gateway.messages.test_messages import body
from tests.real_proxies import PROGRAMS, running
from tests.redis_servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.door import Door
    from tests.rig import Rig

PAGE: Final = Path(__file__).parents[2] / "docs" / "gateway.md"


def block(language: str) -> str:
    """Return the block of a proxy."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def server_of(proxy: str, folder: Path, port: int, gateway: str) -> str:
    """Return the block of a proxy with the places of a test in it."""
    text = block(proxy).replace("127.0.0.1:8480", gateway.removeprefix("http://"))
    text = text.replace("/etc/ssl/mill", f"{folder}/mill")
    if proxy == "nginx":
        return text.replace("listen 443", f"listen 127.0.0.1:{port}")
    return text.replace("mill.example.com", f"https://localhost:{port}")


def certify(folder: Path) -> None:
    """Make a certificate that nobody else has signed."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(folder / "mill.key"), "-out", str(folder / "mill.pem")),
        ],
        check=True,
        capture_output=True,
    )


@asynccontextmanager
async def proxied(
    proxy: str, folder: Path, door: Door
) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Run a proxy before a gateway; yield its URL, and the headers of a client."""
    certify(folder)
    port = free_port()
    async with running(proxy, folder, server_of(proxy, folder, port, door.url), port):
        yield f"https://localhost:{port}", {"x-api-key": door.key}


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param(name, marks=pytest.mark.skipif(not path, reason=f"no {name} here"))
        for name, path in PROGRAMS.items()
    ],
)
async def test_a_proxy_passes_on_what_clients_need(
    proxy: str, rig: Rig, door: Door, tmp_path: Path
) -> None:
    """A Message, pings while it waits, a create of 50 MB, and the address of the results."""
    rig.sim.configure(latency_s=1)
    folder = tmp_path / proxy
    folder.mkdir()
    async with (
        rig.working(),
        proxied(proxy, folder, door) as (url, headers),
        aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=False)) as client,
    ):
        async with client.post(f"{url}/v1/messages", json=body()) as answer:
            assert (answer.status, (await answer.json())["type"]) == (200, "message")
        async with client.post(f"{url}/v1/messages", json=body("again", stream=True)) as answer:
            first = await answer.content.readuntil(b"\n\n")
            assert b"ping" in first
            done = rig.sim.ledger.totals.answered
            assert done == 1, "the ping came before the second answer"
            assert (await answer.content.read()).rstrip().endswith(b'{"type":"message_stop"}')
        requests = [request(number, system="x" * 500_000) for number in range(100)]
        data = json.dumps({"requests": requests}).encode()
        assert len(data) > 50_000_000
        sent = {"content-type": "application/json"}
        async with client.post(url + PATH, data=io.BytesIO(data), headers=sent) as answer:
            made = await answer.json()
            assert answer.status == 200, made
        async with client.post(f"{url}{PATH}/{made['id']}/cancel") as answer:
            assert answer.status == 200
        ended: dict[str, str | None] = {"processing_status": ""}
        async with asyncio.timeout(60):
            while ended["processing_status"] != "ended":
                async with client.get(f"{url}{PATH}/{made['id']}") as answer:
                    ended = await answer.json()
        assert str(ended["results_url"]).startswith(f"{url}/"), "the client's own address"


def test_no_proxy_waits_less_than_a_message_may() -> None:
    """The SDKs wait for 600 s."""
    for proxy in ("nginx", "caddy"):
        waits = [int(found) for found in re.findall(r"timeout (\d+)s", block(proxy))]
        assert waits
        assert min(waits) > 600
