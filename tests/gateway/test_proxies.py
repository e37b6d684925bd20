"""nginx and Caddy in front of a gateway, with the blocks of docs/gateway.md as they stand there."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.gateway.batches.made import PATH, request
from tests.gateway.messages.test_messages import body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.door import Door
    from tests.rig import Rig

PAGE: Final = Path(__file__).parents[2] / "docs" / "gateway.md"
NGINX: Final = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CADDY: Final = shutil.which("caddy")
PATIENCE_S: Final = 20.0
FRAME: Final = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def block(language: str) -> str:
    """Return the block of a proxy."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def command(proxy: str, folder: Path, port: int, gateway: str) -> list[str]:
    """Write the configuration of a proxy; return the command that runs it."""
    text = block(proxy).replace("127.0.0.1:8480", gateway.removeprefix("http://"))
    text = text.replace("/etc/ssl/mill", f"{folder}/mill")
    file = folder / "conf"
    if proxy == "nginx":
        text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
        file.write_text(FRAME.format(folder=folder, server=text))
        return [str(NGINX), "-c", str(file), "-p", str(folder)]
    text = text.replace("mill.example.com", f"https://localhost:{port}")
    options = "{\n    admin off\n    auto_https disable_redirects\n    default_bind 127.0.0.1\n}\n"
    file.write_text(options + text)
    return [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(file)]


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
    process = await asyncio.create_subprocess_exec(
        *command(proxy, folder, port, door.url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert process.returncode is None, f"{proxy} ended"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"https://localhost:{port}", {"x-api-key": door.key}
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param("nginx", marks=pytest.mark.skipif(not NGINX, reason="no nginx here")),
        pytest.param("caddy", marks=pytest.mark.skipif(not CADDY, reason="no caddy here")),
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
