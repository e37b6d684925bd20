"""The embedded server: every command finds it, it is restarted, and it is always stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.integration.shell import Endpoint, Shell, finish, slowly, until


def servers(shell: Shell) -> list[int]:
    """Return the pids of the embedded servers of the shell's folder."""
    return shell.pids("valkey-server")


def starts(shell: Shell) -> int:
    """Return how many servers were ever started there."""
    return (shell.data / "valkey.log").read_text().count("Server initialized")


def test_two_commands_at_once_share_one_server(shell: Shell) -> None:
    """Two servers on the same files would destroy them."""
    first, second = shell.write(200, "first.jsonl"), shell.write(200, "second.jsonl")
    with shell.started("enqueue", first) as one, shell.started("run", second) as two:
        finish(one, 0)
        finish(two, 0)
    assert len(shell.rows("second.results.jsonl")) == 200
    assert shell.status("first")["queued"] == 200
    assert starts(shell) <= 3


def test_a_second_feeder_is_refused(shell: Shell, endpoint: Endpoint) -> None:
    """Two feeders would count one batch twice; the first one continues."""
    slowly(shell, endpoint)
    source = shell.write(3000)
    with shell.started("run", source) as run:
        until(endpoint.answered)
        second = shell("run", source)
        assert (second.code, second.err.count("\n")) == (2, 1)
        assert 'batch "prompts" is being fed by process' in second.err
        assert shell("enqueue", source).code == 2
        endpoint.configure(latency_s=0)
        finish(run, 0)
    assert endpoint.answered() == [1] * 3000


def test_a_killed_server_is_started_again_during_a_run(shell: Shell, endpoint: Endpoint) -> None:
    """Its jobs come from its append-only file and from the source, and the run succeeds."""
    slowly(shell, endpoint)
    source = shell.write(300)
    with shell.started("run", source) as run:
        until(lambda: sum(endpoint.answered()) > 100)
        (server,) = servers(shell)
        os.kill(server, signal.SIGKILL)
        endpoint.configure(latency_s=0)
        finish(run, 0)
    assert len(shell.rows()) == 300
    assert starts(shell) == 2
    assert len(endpoint.calls()) == 300


def test_a_server_that_dies_again_and_again_is_started_each_time(
    shell: Shell, endpoint: Endpoint
) -> None:
    """The run goes on though the server dies before the workers have found it again."""
    slowly(shell, endpoint)
    source = shell.write(300)
    with shell.started("run", source) as run:
        until(lambda: sum(endpoint.answered()) > 50)
        for number in range(1, 5):
            (server,) = servers(shell)
            os.kill(server, signal.SIGKILL)
            until(lambda: starts(shell) > number)  # noqa: B023 - called at once
        endpoint.configure(latency_s=0)
        finish(run, 0)
    assert len(shell.rows()) == 300
    assert starts(shell) == 5


def test_after_everything_was_killed_any_command_works(shell: Shell, endpoint: Endpoint) -> None:
    """As in a power cut, the supervisor, its workers and the server end at the same moment."""
    slowly(shell, endpoint)
    source = shell.write(300)
    with shell.started("run", source, "--processes", "2") as run:
        until(lambda: sum(endpoint.answered()) > 50)
        run.kill()
        for pid in shell.pids():
            os.kill(pid, signal.SIGKILL)
    assert shell.status()["failed"] == 0
    stored = len(shell("results", "prompts").out.splitlines())
    called = sum(each["calls"] for each in endpoint.calls().values())
    endpoint.configure(latency_s=0)
    assert shell("run", source).code == 0
    assert len(shell.rows()) == 300
    assert len(endpoint.calls()) == 300
    again = sum(each["calls"] for each in endpoint.calls().values()) - called
    assert again == 300 - stored > 0, "a stored job was called again"


def test_a_stale_socket_does_no_harm(shell: Shell) -> None:
    """A crash leaves a socket that no process listens at."""
    shell.data.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(shell.data / "valkey.sock"))
    assert shell("status").code == 0


def test_a_folder_with_a_very_long_path_works(tmp_path: Path) -> None:
    """The path of a socket is limited, so it is in another folder, where every client finds it."""
    folder = tmp_path / ("deep and wide " * 8) / ("deeper" * 20)
    folder.mkdir(parents=True)
    shell = Shell(folder)
    with shell.started("enqueue", "-", "--batch", "live", stdin=subprocess.PIPE) as feeding:
        assert feeding.stdin is not None
        feeding.stdin.write('{"prompt": "hello"}\n')
        feeding.stdin.flush()
        until((shell.data / "valkey.pid").exists)
        shell.python(
            "from nightmill import SyncProducer\n"
            "message = {'role': 'user', 'content': 'x'}\n"
            "with SyncProducer() as p: p.enqueue({'messages': [message], 'max_tokens': 5})"
        )
        feeding.stdin.close()
        feeding.stdin = None
        finish(feeding, 0)
    assert json.loads(shell("status", "--json").out)["single"]["queued"] == 1
    shell.assert_nothing_runs()
