"""`nightmill serve` and `nightmill keys` as a person uses them."""

from __future__ import annotations

import http.client
import json
import signal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.integration.shell import Shell, finish

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path, redis_url: str) -> Shell:
    """Return a shell in an empty folder, whose commands use the session's Valkey."""
    return Shell(tmp_path, redis_url=redis_url)


def get(url: str, path: str, key: str = "") -> int:
    """Return the status of a GET."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers={"x-api-key": key} if key else {})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_until_a_signal(shell: Shell, number: int) -> None:
    """The printed lines are what a person copies."""
    with shell.started("serve", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[6]
        assert f"ANTHROPIC_BASE_URL={url}" in process.stdout.readline()
        # A gateway that a balancer asks takes requests for 5 s more; one of the two waits for that.
        assert get(url, "/readyz" if number == signal.SIGINT else "/healthz") == 200
        assert get(url, "/v1/x") == 401
        key = shell("keys", "create", "web").out.strip()
        assert get(url, "/v1/x", key) == 404, "a new key works at once"
        assert shell("keys", "revoke", key).code == 0
        assert get(url, "/v1/x", key) == 401
        process.send_signal(number)
        assert "nightmill keys create" in finish(process, 0).err


def test_serve_without_keys_is_for_this_machine_alone(shell: Shell) -> None:
    """Without keys on a network, everybody spends the account's money."""
    done = shell("serve", "--insecure", "--host", "10.0.0.1")
    assert done.code == 2
    assert "--insecure: given --host 10.0.0.1; allowed: 127.0.0.1, ::1, localhost" in done.err


def test_keys_are_made_listed_and_revoked(shell: Shell) -> None:
    """The key is shown once; the list has its id."""
    made = shell("keys", "create", "web", "--tenant", "a", "--role", "viewer", "--expires", "24h")
    assert made.code == 0
    key = made.out.strip()
    key_id = "_".join(key.split("_")[:2])
    listed = shell("keys", "list")
    assert "viewer" in listed.out
    assert key_id in listed.out
    assert key not in listed.out
    (record,) = json.loads(shell("keys", "list", "--json").out)
    assert (record["id"], record["tenant"], record["state"]) == (key_id, "a", "valid")
    assert shell("keys", "revoke", key_id).out == f"{key_id} is revoked\n"
    assert json.loads(shell("keys", "list", "--json").out)[0]["state"] == "revoked"


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("create", ""), "NAME: given ''; allowed: 1 to 64 printable characters"),
        (("create", "a", "--tenant", "b/c"), "--tenant: given 'b/c'; allowed: 1 to 64 letters"),
        (("create", "a", "--expires", "soon"), "--expires: a time such as 90m"),
        (("list",), "no results store, so no keys"),
    ],
)
def test_a_wrong_option_is_one_line(shell: Shell, args: tuple[str, ...], problem: str) -> None:
    """The message names the option and what it may be."""
    done = shell("keys", *args)
    assert done.code == 2
    assert problem in done.err
    assert done.err.count("\n") == 1


def test_a_service_key_is_of_one_tenant(shell: Shell) -> None:
    """It creates batches, and a batch of all tenants is nobody's."""
    done = shell("keys", "create", "web", "--role", "service", "--tenant", "*")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --tenant: given '*'")
    assert "'*' with the role viewer or operator" in done.err
    for role in ("viewer", "operator"):
        assert shell("keys", "create", "web", "--role", role, "--tenant", "*").code == 0


def test_the_limits_of_a_key_are_shown_and_changed(shell: Shell) -> None:
    """What is given at its making, and `any` takes a limit away."""
    given = ("--rpm", "600", "--concurrency", "5", "--budget-usd", "50/day", "--betas", "b-1,b-2")
    key = shell("keys", "create", "web", *given).out.strip()
    listed = shell("keys", "list").out
    assert "600/min, 5 at once, $50.00/day, betas b-1 b-2" in listed
    assert "0/min, 0 at once, $0.00" in listed
    done = shell("keys", "adjust", key, "--rpm", "7", "--budget-usd", "any", "--betas", "none")
    assert done.out.endswith("has the new limits\n")
    (record,) = json.loads(shell("keys", "list", "--json").out)
    assert (record["rpm"], record["concurrency"], record["betas"]) == (7, 5, [])
    assert record["budget_usd"] is record["used_usd"] is None
    assert record["used_concurrency"] == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--rpm", each) for each in ("0", "-1", "nan", "1e400", "1.5", "")),
        *(("--concurrency", each) for each in ("0", "-1", "inf", "99999999999999999999")),
        *(("--budget-usd", each) for each in ("50", "0/day", "-5/day", "nan/day", "1e400/day")),
        ("--betas", "a b"),
        ("--betas", ""),
        ("--expires", "0"),
        ("--expires", "0s"),
        ("--expires", "999999999999999999d"),
        ("--expires", "9" * 400 + "d"),
        ("--expires", "-1h"),
    ],
)
def test_an_odd_limit_is_refused_in_one_line(shell: Shell, option: str, value: str) -> None:
    """It names the option, what was given and what is allowed, and makes no key."""
    done = shell("keys", "create", "web", f"{option}={value}")
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith(("error: " + option, option))
    assert done.err.count("\n") == 1


def test_an_unknown_key_is_not_revoked(shell: Shell) -> None:
    """A mistyped id must not look as if the key were revoked."""
    shell("keys", "create", "web")
    done = shell("keys", "revoke", "nm_000000000000")
    assert done.code == 2
    assert "nightmill keys list" in done.err
