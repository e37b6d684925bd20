"""Workers that die again and again: the reason is shown, and a stop leaves nothing behind."""

from __future__ import annotations

import os
import signal

from tests.integration.shell import Endpoint, Shell, finish, until

DYING = """
from nightmill_worker.fleet import worker
async def fail(background, **options):
    raise RuntimeError("the governor failed")
worker.Background.run = fail
"""
REASON = "workers keep dying at start: RuntimeError: the governor failed"


def crashing(shell: Shell) -> bool:
    """Return whether `status --json` shows the crash; the batch may not exist yet."""
    return REASON in shell("status", "prompts", "--json").out


def test_a_crash_loop_is_shown_and_can_be_stopped(shell: Shell) -> None:
    """`status` and `run` name the exception; SIGTERM stops the embedded server, too."""
    shell.patch_workers(DYING)
    with shell.started("run", shell.write(3)) as run:
        until(lambda: crashing(shell))
        table = " ".join(shell("status", "prompts").out.split())
        assert REASON in table
        assert "worker.log" in table
        run.send_signal(signal.SIGTERM)
        err = finish(run, 130).err
    assert REASON in err
    shell.assert_nothing_runs()


def test_a_crash_loop_of_workers_is_shown(shell: Shell) -> None:
    """A fleet's workers say so in `status`, on whatever machine they run."""
    assert shell("enqueue", shell.write(3)).code == 0
    shell.patch_workers(DYING)
    with shell.started("worker") as worker:
        until(lambda: crashing(shell))
        worker.send_signal(signal.SIGTERM)
        worker.communicate()
    assert worker.returncode == 0
    assert "crashes" not in shell.status()


def test_a_crash_loop_that_is_killed_leaves_no_server(shell: Shell) -> None:
    """No process of the run is left that could stop the server."""
    shell.patch_workers(DYING)
    with shell.started("run", shell.write(3)) as run:
        until(lambda: crashing(shell))
        run.kill()
        shell.assert_nothing_runs()


def test_workers_of_a_killed_run_do_not_restart_the_server(
    shell: Shell, endpoint: Endpoint
) -> None:
    """A worker that outlives its supervisor must not start a server that nobody stops."""
    endpoint.configure(latency_s=3)
    with shell.started("run", shell.write(5)) as run:
        until(lambda: len(endpoint.calls()) == 5)
        (server,) = shell.pids("valkey-server")
        run.kill()
        os.kill(server, signal.SIGKILL)
        shell.assert_nothing_runs()
    log = (shell.data / "valkey.log").read_text()
    assert log.count("Server initialized") == 1
