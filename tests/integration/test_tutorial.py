"""docs/tutorial.md: every command is run, and what it prints is compared."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, NamedTuple

import pytest

PAGE: Final = Path(__file__).parents[2] / "docs" / "tutorial.md"
PORT: Final = "8399"
"""The port on the page; each test takes a free one."""
PATIENCE_S: Final = 100.0
MARK: Final = "tutorial-command-ended"
ANY: Final = "..."


class Step(NamedTuple):
    """One command, and the lines that it prints."""

    command: str
    printed: list[str]


def sections() -> dict[str, list[Step]]:
    """Return heading -> its commands."""
    found = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = re.findall(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        found[part.partition("\n")[0]] = [step for block in blocks for step in steps(block)]
    return found


def steps(block: str) -> list[Step]:
    """Return the commands of one block; lines with > belong to the command before."""
    made: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            made.append(Step(line[2:], []))
        elif line.startswith(">") and not made[-1].printed:
            made[-1] = Step(f"{made[-1].command}\n{line[2:]}", [])
        else:
            made[-1].printed.append(line)
    return made


def pattern(printed: list[str]) -> str:
    """Return a pattern of the output: a line of dots stands for any lines, dots for any text."""
    lines = [
        r"(?:.*\n)*?" if line == ANY else ".*".join(map(re.escape, line.split(ANY))) + r"\n"
        for line in printed
    ]
    return "".join(lines)


class Terminal:
    """One shell for all commands of a section."""

    def __init__(self, folder: Path) -> None:
        """Start it in `folder`, without settings."""
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._port = str(server.getsockname()[1])
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("NIGHTMILL", "ANTHROPIC"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # The plugin is named here: an editable install from before has no entry point for it.
        plugin = {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p nightmill.testing.plugin",
        }
        env = kept | plugin | {"PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
        self.process = subprocess.Popen(
            ["bash"],  # noqa: S607 - the one of this machine
            cwd=folder,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run a command in the shell; return what it printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        script = self._folder / ".command"
        script.write_text(command.replace(PORT, self._port) + "\n")
        again = f". ./{script.name} < /dev/null; s=$?; echo {MARK}; (exit $s)\n"
        self.process.stdin.write(f"(exit ${{s:-0}}); {again}")
        self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.rstrip("\n").endswith(MARK):
                return "".join(lines) + line.removesuffix(f"{MARK}\n")
            lines.append(line)
        return "".join(lines) + "(the shell was ended)\n"

    def end(self) -> None:
        """End the shell, and all that it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("section", sections())
def test_the_transcript_of_a_newcomers_path_is_true(section: str, tmp_path: Path) -> None:
    """A page that shows what is no longer printed misleads those who know least."""
    terminal = Terminal(tmp_path)
    watch = threading.Timer(PATIENCE_S, lambda: os.killpg(terminal.process.pid, signal.SIGTERM))
    watch.start()
    try:
        for step in sections()[section]:
            output = terminal.run(step.command).replace(terminal._port, PORT)
            lines = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
            printed = f"$ {step.command}\n{lines}"
            assert re.fullmatch(pattern(step.printed), lines), printed
    finally:
        watch.cancel()
        terminal.end()


def test_the_page_has_the_three_paths() -> None:
    """Each kind of newcomer has one, and none is a page without commands."""
    assert [len(found) > 5 for found in sections().values()] == [True, True, True]
