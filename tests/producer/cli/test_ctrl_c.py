"""Ctrl-C ends every command at once, wherever it is; `run` and `worker` say what they wait for."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

from tests.producer.store.samples import numbered

if TYPE_CHECKING:
    from tests.integration.shell import Process, Shell
    from tests.rig import Rig


def interrupted(process: Process) -> int:
    """Press Ctrl-C; return the exit code."""
    process.send_signal(signal.SIGINT)
    return process.wait(20)


async def test_an_export_ends_while_nobody_reads_it(shell: Shell, rig: Rig) -> None:
    """A full pipe (`| less`) holds the export up in the middle of a row."""
    await rig.store.record([numbered(number) for number in range(1, 2000)])
    with shell.started("results", "night") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert interrupted(process) == 130


def test_wait_ends_at_once(shell: Shell) -> None:
    """No worker runs, so it would wait for ever."""
    assert shell("enqueue", shell.write(3)).code == 0
    with shell.started("wait", "prompts") as process:
        assert process.stderr is not None
        assert "0/3 done" in process.stderr.readline()
        assert interrupted(process) == 130


def test_enqueue_ends_at_once_and_keeps_what_it_fed(shell: Shell) -> None:
    """The source is a stream that does not end."""
    with shell.started("enqueue", "-", "--batch", "live", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write('{"custom_id": "a", "prompt": "x"}\n')
        process.stdin.flush()
        assert "live: " in process.stderr.readline()
        assert interrupted(process) == 130
