"""`nightmill serve --processes N`: one port, several processes, and a supervisor."""

from __future__ import annotations

import http.client
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.gateway.batches.made import PATH, request
from tests.gateway.messages.test_messages import body
from tests.integration.shell import Shell, finish, simulated, until

if TYPE_CHECKING:
    from pathlib import Path

SERVE = ("serve", "--insecure", "--port", "0", "--processes", "2")
CHILD = "nightmill_gateway.process"


def ask(url: str, method: str, path: str, given: object = None) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    with closing(connection):
        sent = None if given is None else json.dumps(given)
        connection.request(method, path, sent, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_dead_process_is_started_again_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    """Kill -9 of each process, once while its clients wait; then a stop that exits 0."""
    with simulated(tmp_path) as endpoint:
        endpoint.configure(latency_s=1)
        shell = Shell(tmp_path, base_url=endpoint.url, api_key="k")
        with shell.started(*SERVE) as process, shell.started("worker"):
            assert process.stdout is not None
            url = process.stdout.readline().split()[6]
            first = shell.pids(CHILD)
            assert len(first) == 2
            status, made = ask(url, "POST", PATH, {"requests": [request(n) for n in range(20)]})
            assert status == 200
            batch = json.loads(made)["id"]
            with ThreadPoolExecutor(8) as threads:
                texts = [f"client {number}" for number in range(8)]
                sent = [
                    threads.submit(ask, url, "POST", "/v1/messages", body(text)) for text in texts
                ]
                until(lambda: len(endpoint.calls()) == 28)
                for pid in first:
                    os.kill(pid, signal.SIGKILL)
                for each in sent:
                    assert each.exception() is not None
            assert ask(url, "GET", "/readyz")[0] == 200, "the socket is the supervisor's"
            until(lambda: len(shell.pids(CHILD)) == 2)
            assert not set(first) & set(shell.pids(CHILD))
            until(lambda: b'"ended"' in ask(url, "GET", f"{PATH}/{batch}")[1])
            assert ask(url, "GET", f"{PATH}/{batch}/results")[1].count(b"succeeded") == 20
            until(lambda: endpoint.answered() == [1] * 28)
            process.send_signal(signal.SIGTERM)
            done = finish(process, 0)
    assert done.err.count("gateway process died") == done.err.count("signal 9") == 2
    shell.assert_nothing_runs()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_open_requests_finish(tmp_path: Path, redis_url: str, number: int) -> None:
    """Both processes finish what they have, and the supervisor exits 0."""
    with simulated(tmp_path) as endpoint:
        endpoint.configure(latency_s=1)
        shell = Shell(tmp_path, base_url=endpoint.url, api_key="k", redis_url=redis_url)
        with shell.started(*SERVE) as process, shell.started("worker") as worker:
            assert process.stdout is not None
            url = process.stdout.readline().split()[6]
            with ThreadPoolExecutor(8) as threads:
                texts = [f"client {number}" for number in range(8)]
                sent = [
                    threads.submit(ask, url, "POST", "/v1/messages", body(text)) for text in texts
                ]
                until(lambda: len(endpoint.calls()) == 8)
                process.send_signal(number)
                assert [each.result()[0] for each in sent] == [200] * 8
            finish(process, 0)
            worker.send_signal(signal.SIGTERM)
            finish(worker, 0)
    shell.assert_nothing_runs()


def test_a_stop_while_the_processes_start_says_nothing(tmp_path: Path, redis_url: str) -> None:
    """A Ctrl-C right after the start is no defect."""
    shell = Shell(tmp_path, redis_url=redis_url)
    with shell.started(*SERVE) as process:
        until(lambda: shell.pids(CHILD))
        process.send_signal(signal.SIGINT)
        assert finish(process, 0).err == ""
    shell.assert_nothing_runs()


def test_the_processes_end_with_their_supervisor(tmp_path: Path, redis_url: str) -> None:
    """Left alone, they would hold the port."""
    shell = Shell(tmp_path, redis_url=redis_url)
    with shell.started(*SERVE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    shell.assert_nothing_runs()


def test_what_no_process_can_run_with_is_one_line(tmp_path: Path) -> None:
    """Bad settings are no reason to start processes for ever."""
    shell = Shell(tmp_path, redis_url="redis://127.0.0.1:1")
    done = shell(*SERVE)
    assert done.code == 2
    assert done.err.count("\n") == 1
