"""PostgreSQL URLs as the users of libpq write them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest

from nightmill.errors import StoreError, StoreUnavailableError
from nightmill.store import ResultStore
from nightmill.store.postgresql_url import MAX_TIMEOUT_S, parsed
from tests.producer.store.samples import SUCCEEDED

if TYPE_CHECKING:
    from tests.postgres import Postgres


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_name_of_the_scheme_is_read(scheme: str) -> None:
    """Heroku gives postgres://."""
    found = parsed(f"{scheme}://u:pw@h:5433/d")
    assert (found.dsn, found.hosts) == ("postgresql://u:pw@/d", (("h", 5433),))
    assert found.where == "postgresql://u:***@h:5433/d"


@pytest.mark.parametrize("password", ["a@b", "a/b#c?d", "a:b", "100%", "a%40b", "p w+", "a@b/c@d"])
def test_a_password_may_have_special_characters(password: str) -> None:
    """Generators make such passwords, and a part of one was taken for the host."""
    found = parsed(f"postgresql://u:{password}@h1,h2:5433/d?sslmode=disable")
    assert found.hosts == (("h1", None), ("h2", 5433))
    assert found.where == "postgresql://u:***@h1,h2:5433/d"


@pytest.mark.parametrize("at", [0, 1], ids=["first", "second"])
def test_passwords_reach_the_driver_as_they_are_meant(at: int) -> None:
    """Encoded or not."""
    given = ("p%40s%2Fs%25", "p@s/s%")[at]
    assert "u:p%40s%2Fs%25@" in parsed(f"postgresql://u:{given}@h/d").dsn


@pytest.mark.parametrize(
    ("rest", "hosts", "where"),
    [
        ("h/d", (("h", None),), "h/d"),
        ("/d", (), "/d"),
        ("/d?host=/run/pg", (("/run/pg", None),), "/d?host=/run/pg"),
        ("[::1]:5433/d", (("::1", 5433),), "[::1]:5433/d"),
        ("a,b:2,[::1]/d", (("a", None), ("b", 2), ("::1", None)), "a,b:2,[::1]/d"),
        ("/d?host=a,b&port=1,2", (("a", 1), ("b", 2)), "a:1,b:2/d"),
        ("/d?host=a:1&host=b:2", (("a", 1), ("b", 2)), "a:1,b:2/d"),
        ("%2Frun%2Fpg/d", (("/run/pg", None),), "/d?host=/run/pg"),
    ],
)
def test_the_hosts_of_a_url(
    rest: str, hosts: tuple[tuple[str, int | None], ...], where: str
) -> None:
    """Folders of sockets, several hosts, IPv6; in the URL or as options."""
    found = parsed(f"postgresql://{rest}")
    assert found.hosts == hosts
    assert found.where == f"postgresql://{where}"


def test_options_that_asyncpg_has_not_are_read_here(tmp_path: Path) -> None:
    """The server would refuse them as unknown parameters."""
    authority = tmp_path / "ca.pem"
    authority.touch()
    found = parsed(
        "postgresql://h/d?connect_timeout=3&keepalives=1&channel_binding=prefer&gssencmode=disable"
        f"&sslmode=verify-full&sslrootcert={authority}&options=-c%20geqo%3Doff"
        "&fallback_application_name=mill&statement_cache_size=0"
    )
    query = found.dsn.partition("?")[2]
    assert found.timeout_s == 3
    assert dict(parse_qsl(query)) == {
        "sslmode": "verify-full",
        "sslrootcert": str(authority),
        "options": "-c geqo=off",
        "application_name": "mill",
    }
    assert parsed("postgresql://h/d?connect_timeout=0").timeout_s == MAX_TIMEOUT_S
    assert parsed("postgresql://h/d?sslmode=verify-full&sslrootcert=system").system_ca
    assert parsed("postgresql://h/d?ssl=require").dsn.endswith("?sslmode=require")
    assert "target_session_attrs=read-write" in parsed("postgresql://a,b/d").dsn
    assert "target_session_attrs=any" in parsed("postgresql://a,b/d?target_session_attrs=any").dsn


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://h/d?channel_binding=require", "channel_binding=require is not possible"),
        ("postgresql://h/d?require_auth=scram-sha-256", "require_auth"),
        ("postgresql://h/d?sslrootcert=/no/such", "sslrootcert: there is no file /no/such"),
        ("postgresql://h/d?connect_timeout=soon", "connect_timeout is no number"),
        ("postgresql://h:hunter2/d", "not a URL"),
        ("postgresql://h/hunter2?a=b@c", "percent-encode"),
        ("postgresql://a b@[::1/d", "percent-encode|not a URL"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix(url: str, problem: str) -> None:
    """No part of a password is shown."""
    with pytest.raises(StoreError, match=problem) as caught:
        parsed(url)
    assert "hunter2" not in str(caught.value)


async def test_a_host_that_is_away_is_followed_by_the_next(server: Postgres) -> None:
    """The first host had the whole time, so that the second one was never asked."""
    folder = server.url.partition("host=")[2]
    database = server.create("hosts").rpartition("?")[0].rpartition("/")[2]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        away = f"127.0.0.1:{silent.getsockname()[1]}"
        url = f"postgresql://postgres@/{database}?host={away},/none,{folder}&connect_timeout=1"
        async with ResultStore.open(url) as store:
            assert await store.record([SUCCEEDED]) == 1
            hosts = f"{away},/none,{folder}"
            assert store.where == f"postgresql://postgres@/{database}?host={hosts}"


@pytest.mark.parametrize(
    ("option", "kind", "problem"),
    [
        ("no_such_thing=1", StoreError, "no_such_thing.*take it out of STORE_URL"),
        ("sslmode=loud", StoreError, "sslmode"),
        ("target_session_attrs=standby", StoreUnavailableError, "session_attrs|standby"),
    ],
)
async def test_what_the_driver_refuses_is_one_line(
    new_database: str, option: str, kind: type[StoreError], problem: str
) -> None:
    """Errors of a new connection are the driver's own, and had a traceback."""
    with pytest.raises(kind, match=problem) as caught:
        async with ResultStore.open(f"{new_database}&{option}"):
            pass
    assert type(caught.value) is kind


async def test_a_password_in_an_option_is_not_shown(tmp_path: Path) -> None:
    """The whole URL was named in errors."""
    url = f"postgresql://u@/d?host={tmp_path}&password=hunter2&sslpassword=hunter2"
    with pytest.raises(StoreUnavailableError) as caught:
        async with ResultStore.open(url):
            pass
    assert "hunter2" not in str(caught.value)
