"""Each test here runs on asyncio's own loop and on uvloop, and must leave nothing open."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.rig import until

OPENSSL = shutil.which("openssl")
NAMES = {
    "good": "DNS:localhost,DNS:api.test,DNS:proxy.test,IP:127.0.0.1,IP:::1",
    "wrong": "DNS:other.test",
}

USAGE = "keyUsage=critical,keyCertSign,cRLSign"
"""Python 3.13 and later refuse an authority without it."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loops that each test runs on: the worker uses uvloop."""
    del config, item
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def frozen() -> Iterator[None]:
    """Keep the modules of all tests out of each collection of garbage: it takes 0.1 to 0.6 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the developer's own shell."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Fail a test that leaves a socket, a task or an error that nobody took."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    tasks = asyncio.all_tasks()
    before = _sockets()
    yield
    try:
        await until(lambda: not asyncio.all_tasks() - tasks - {asyncio.current_task()}, within=5)
        await until(lambda: _sockets() <= before, within=5)
    except TimeoutError:
        left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
        pytest.fail(f"left open: {left or _sockets() - before}")
    gc.collect()  # an error that nobody took is reported when its task or future is deleted
    await asyncio.sleep(0)
    assert errors == []


def _sockets() -> set[tuple[int, int]]:
    """Return (device, inode) of each open socket of a network; a loop's own are of another kind."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            status = os.fstat(int(path.name))
            if stat.S_ISSOCK(status.st_mode) and _is_network(int(path.name)):
                found.add((status.st_dev, status.st_ino))
    return found


def _is_network(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as copied:
        return copied.family in (socket.AF_INET, socket.AF_INET6)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder: the authorities ca and other, certificates good and wrong."""
    if OPENSSL is None:
        pytest.skip("no openssl on PATH")
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        subject = ("-subj", f"/CN={name}", "-addext", USAGE)
        _openssl(folder, "req", "-x509", "-days", "2", *key, *files, *subject)
    for name, names in NAMES.items():
        (folder / "names").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        _openssl(folder, "req", *key, *files, "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        request = ("-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "names")
        _openssl(folder, "x509", *request, *signed)
    return folder


def _openssl(folder: Path, *args: str) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *args], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def trusted(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the client trust the authority ca; return the folder of certificates."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    return authority
