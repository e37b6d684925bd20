"""What the provider would refuse ends a command before Redis, a worker or a call is needed."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shell import Endpoint, Shell
from tests.producer.params.test_preflight import CASES

PROVIDER = "https://api.anthropic.com"
COLD = {"prompt": "x", "model": "claude-opus-4-7", "temperature": 0}


@pytest.fixture
def line() -> Iterator[socket.socket]:
    """Return a socket that listens where the proxy should be: every call would come to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def shell(tmp_path: Path, line: socket.socket) -> Shell:
    """Return a shell whose endpoint is the provider, and whose calls go to `line`."""
    shell = Shell(tmp_path, base_url=PROVIDER, api_key="sk-test-0123456789")
    shell.env["HTTPS_PROXY"] = f"http://127.0.0.1:{line.getsockname()[1]}"
    return shell


def write(shell: Shell, rows: list[dict[str, object]]) -> str:
    """Write rows as JSON Lines."""
    (shell.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "in.jsonl"


@pytest.mark.parametrize("command", ["run", "enqueue"])
def test_every_case_is_a_bad_row_and_no_call_is_made(
    shell: Shell, line: socket.socket, command: str
) -> None:
    """Each of these jobs was called, refused with a 400, and failed."""
    rows = [{"params": params, **_beside(api)} for params, api, _, _ in CASES]
    done = shell(command, write(shell, rows), "--allow-unknown")
    assert done.code == 2
    assert f"{len(CASES)} of {len(CASES)} rows cannot be jobs, nothing was enqueued" in done.err
    for number, (_, _, field, _) in enumerate(CASES, 1):
        assert f"line {number}: {field}: given" in done.err or "rows: " in done.err
    assert "--no-preflight (PREFLIGHT=false) sends it all the same" in done.err
    assert not select.select([line], [], [], 0)[0]
    assert not (shell.data / "results.db").exists()


def _beside(api: object) -> dict[str, object]:
    version = getattr(api, "anthropic_version", None)
    return {} if version is None else {"anthropic_version": version}


def test_a_dry_run_shows_the_bad_row_and_the_option_lets_it_pass(shell: Shell) -> None:
    """`--no-preflight` switches off these rules, and never the contract of a request."""
    path = write(shell, [COLD, {"prompt": "fine"}])
    done = shell("run", path, "--dry-run")
    assert done.code == 2
    assert "bad row: line 1: temperature: given 0 (integer); the model takes" in done.out
    assert shell("run", path, "--dry-run", "--no-preflight").code == 0
    assert shell("run", path, "--dry-run", env={"NIGHTMILL_PREFLIGHT": "false"}).code == 0
    system: list[dict[str, object]] = [{"messages": [{"role": "system", "content": "x"}]}]
    done = shell("run", write(shell, system), "--dry-run", "--no-preflight")
    assert done.code == 2
    assert "move it to `system`" in done.out


def test_the_options_decide_for_which_version_it_is_checked(shell: Shell) -> None:
    """A file that was fine may be refused with another version."""
    path = write(shell, [{"prompt": "x", "temperature": 1}])
    assert shell("run", path, "--dry-run").code == 0
    done = shell("run", path, "--dry-run", "--api-version", "2026-10-21")
    assert (done.code, "API version 2026-10-21 takes no temperature" in done.out) == (2, True)
    done = shell("run", path, "--dry-run", "--api-version", "soon")
    assert done.code == 2
    assert "--api-version: given 'soon' (string); allowed: a date, as 2023-06-01 is" in done.err


def test_elsewhere_the_same_row_runs_with_a_warning(shell: Shell, endpoint: Endpoint) -> None:
    """A gateway may take what the provider refuses."""
    shell.export(base_url=endpoint.url)
    done = shell("run", write(shell, [COLD, COLD]), "-o", "out.jsonl", "--beta", "b-2025-01-01")
    assert done.code == 0, done.err
    assert "warning: the endpoint may refuse this: the model takes temperature" in done.err
    assert "(2 lines, first line 1)" in done.err


def test_what_was_enqueued_once_is_verified_and_run_again(shell: Shell, endpoint: Endpoint) -> None:
    """`verify` and `retry` may be typed where BASE_URL is not set: these are jobs all the same."""
    shell.export(base_url=endpoint.url)
    endpoint.configure(down=400)
    path = write(shell, [COLD, COLD])
    assert shell("run", path, "--no-canary").code == 1
    shell.env["NIGHTMILL_BASE_URL"] = PROVIDER
    done = shell("verify", "in", "--source", path)
    assert (done.code, "bad row" in done.err) == (0, False), done
    assert '2 failed jobs of "in" are queued again' in shell("retry", "in").out
    again = shell("retry", "in", "--set", "top_p=0.5")
    assert "temperature: given 0 (integer); the model takes" in again.out + again.err
