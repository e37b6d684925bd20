"""Runs a command on a terminal of its own, and reads what it draws there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.integration.shell import NIGHTMILL, PATIENCE_S

if TYPE_CHECKING:
    from tests.integration.shell import Shell


class Terminal:
    """A pseudo terminal with a command on it."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        """Take the process and the terminal's side of the tester."""
        self.process = process
        self._ours = ours
        self.drawn = ""
        """All that was written to the terminal so far."""

    def resize(self, columns: int, rows: int = 24) -> None:
        """Change the size, as dragging the corner of a window does."""
        resize(self._ours, columns, rows)

    def until(self, text: str, times: int = 1) -> str:
        """Read until `text` was drawn `times` times; return all that was drawn."""
        end = time.monotonic() + PATIENCE_S
        while self.drawn.count(text) < times:
            assert self._read(end), f"{text!r} is not in {self.drawn[-2000:]!r}"
        return self.drawn

    def wait(self) -> int:
        """Read until the command has ended; return its exit code."""
        end = time.monotonic() + PATIENCE_S
        while self._read(end):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"nothing more was drawn: {self.drawn[-2000:]!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux's word for: the last process that had it open is gone
            return False
        self.drawn += data.decode(errors="replace")
        return bool(data)


def resize(terminal: int, columns: int, rows: int) -> None:
    """Set the size of a terminal."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def on_terminal(
    shell: Shell, *args: str, columns: int = 80, rows: int = 24, **env: str
) -> Iterator[Terminal]:
    """Run `nightmill` with all three streams on a terminal; kill it at the end of the block."""
    ours, theirs = pty.openpty()
    resize(theirs, columns, rows)
    kept = {k: v for k, v in shell.env.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    before = termios.tcgetattr(ours)
    process = subprocess.Popen(
        [NIGHTMILL, *args],
        cwd=shell.folder,
        env={**kept, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)  # so that the last process to close it ends the reading
    with process:
        try:
            yield Terminal(process, ours)
            assert termios.tcgetattr(ours) == before
        finally:
            if process.poll() is None:
                process.kill()
            os.close(ours)
