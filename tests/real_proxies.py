"""nginx and Caddy, as programs of this machine, before a server of a test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.rig import until

PROGRAMS: Final = {
    "nginx": shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"),
    "caddy": shutil.which("caddy"),
}
"""Proxy -> its path, None where it is not installed."""
NGINX: Final = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 2000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {text}
}}
"""
CADDY: Final = """
{{
    admin off
    auto_https disable_redirects
    default_bind 127.0.0.1
}}
{text}
"""
STARTS_S: Final = 20.0
"""Longest time until a proxy listens."""


@asynccontextmanager
async def running(name: str, folder: Path, text: str, port: int) -> AsyncIterator[None]:
    """Run a proxy with its files in `folder`; `text` is its server, which listens on `port`."""
    file = folder / "conf"
    file.write_text((NGINX if name == "nginx" else CADDY).format(folder=folder, text=text))
    options = ["-c", str(file), "-p", str(folder)]
    if name == "caddy":
        options = ["run", "--adapter", "caddyfile", "--config", str(file)]
    process = await asyncio.create_subprocess_exec(
        str(PROGRAMS[name]),
        *options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )

    async def listens() -> bool:
        assert process.returncode is None, f"{name} ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens, within=STARTS_S)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
