"""Redis with TLS, a certificate authority of its own and certificates of its clients."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from nightmill.errors import QueueUnavailableError, SettingsError
from nightmill.queue.connection import connect, connect_blocking, redis_errors
from nightmill.settings import load_settings
from tests.integration.shell import Endpoint, Shell
from tests.redis_servers import REDIS, Server, ended, free_port, wait_until

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(
    REDIS is None or OPENSSL is None, reason="no redis-server or no openssl on PATH"
)
PASSWORD = "s3cret-of-redis-4711"  # noqa: S105 - of a server of this test


def openssl(folder: Path, *args: str) -> None:
    """Run one command of openssl in a folder."""
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *args], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """Make an authority, a server's certificate for `localhost` alone, and a client's."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(folder, "req", "-x509", *key, *files, "-subj", f"/CN={name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for name in ("server", "client"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "req", *key[:-2], *files, "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        request = ("-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "names")
        openssl(folder, "x509", *request, *signed)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of certificates."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    """Return a Redis that speaks TLS only, and wants a certificate of its clients."""
    names = {"ca-cert-file": "ca.pem", "cert-file": "server.pem", "key-file": "server.key"}
    options = [
        part for name, file in names.items() for part in (f"--tls-{name}", str(files / file))
    ]
    port = free_port()
    options += ["--port", "0", "--tls-port", str(port), "--requirepass", PASSWORD]
    with ended(Server(files / "redis", *options, port=port)) as running:
        known = {
            "ssl": True,
            "ssl_ca_certs": str(files / "ca.pem"),
            "ssl_certfile": str(files / "client.pem"),
            "ssl_keyfile": str(files / "client.key"),
            "password": PASSWORD,
        }
        wait_until(lambda: running.answers(**known))
        yield running


def url(server: Server, files: Path, *, host: str = "localhost", **changed: str) -> str:
    """Return REDIS_URL with the options of TLS; "" leaves one out."""
    names = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
    options = {name: str(files / file) for name, file in names.items()} | changed
    query = urlencode({name: value for name, value in options.items() if value})
    return f"rediss://:{PASSWORD}@{host}:{server.port}/0?{query}"


def test_a_batch_runs_over_tls(
    shell: Shell, endpoint: Endpoint, server: Server, files: Path
) -> None:
    """Feeder, workers and commands use the same URL."""
    shell.export(redis_url=url(server, files))
    done = shell("run", shell.write(20))
    assert done.code == 0, done.err
    assert len(shell.rows()) == 20
    assert endpoint.answered() == [1] * 20
    assert shell.status()["succeeded"] == 20
    assert PASSWORD not in done.out + done.err


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "127.0.0.1"}, "name the host as its certificate does"),
        ({"ssl_ca_certs": ""}, "add .ssl_ca_certs=FILE"),
        ({"ssl_ca_certs": "other.pem"}, "add .ssl_ca_certs=FILE"),
        ({"ssl_certfile": "", "ssl_keyfile": ""}, "add .ssl_certfile=FILE&ssl_keyfile=FILE"),
    ],
)
async def test_what_tls_refuses_has_a_fix(
    server: Server, files: Path, changed: dict[str, str], words: str
) -> None:
    """Another name, another authority, no certificate: an error that a wait does not remove."""
    named = {k: str(files / v) if v.endswith(".pem") else v for k, v in changed.items()}
    settings = load_settings(redis_url=url(server, files, **named))
    async with connect(settings) as redis:
        with pytest.raises(QueueUnavailableError, match=words) as caught, redis_errors():
            await redis.ping()
    client = connect_blocking(settings)
    with client, pytest.raises(QueueUnavailableError, match=words), redis_errors():
        client.ping()
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("option", ["ssl_check_hostname", "ssl_cert_reqs"])
async def test_checks_can_be_switched_off(server: Server, files: Path, option: str) -> None:
    """For a tunnel whose end has another name."""
    value = "false" if option == "ssl_check_hostname" else "none"
    address = url(server, files, host="127.0.0.1", **{option: value})
    async with connect(load_settings(redis_url=address)) as redis:
        assert await redis.ping()


def test_one_file_holds_certificate_and_key_whatever_else_is_given(
    server: Server, files: Path
) -> None:
    """A tunnel whose end has another name may ask for a certificate, too."""
    both = files / "both.pem"
    both.write_bytes((files / "client.pem").read_bytes() + (files / "client.key").read_bytes())
    for options in ({}, {"ssl_cert_reqs": "none"}):
        address = url(server, files, ssl_certfile=str(both), ssl_keyfile="", **options)
        with connect_blocking(load_settings(redis_url=address)) as redis:
            assert redis.ping()


def test_a_file_that_cannot_be_read_is_a_setting(server: Server, files: Path) -> None:
    """The worker would try again and again."""
    for name, file in {"ssl_ca_certs": "none.pem", "ssl_certfile": "server.csr"}.items():
        settings = load_settings(redis_url=url(server, files, **{name: str(files / file)}))
        with pytest.raises(SettingsError, match=f"{name}.*{file}.*cannot be read") as caught:
            connect(settings)
        assert PASSWORD not in str(caught.value)


def test_a_wrong_url_of_tls_is_refused() -> None:
    """Before anything connects."""
    for given, words in {
        "redis://h?ssl_ca_certs=x": "needs TLS: use rediss://",
        "rediss://h?ssl_cert_reqs=maybe": "none, optional, required",
        "rediss://h?ssl_password=x": "no option ssl_password",
        "rediss://h?ssl_check_hostname=maybe": "ssl_check_hostname is neither yes nor no",
        "rediss://h?ssl_keyfile=x": "ssl_keyfile needs ssl_certfile",
    }.items():
        with pytest.raises(SettingsError, match=words):
            load_settings(redis_url=given)
