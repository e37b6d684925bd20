"""The guarded standard streams. Commands on streams that fail are in tests/producer/cli."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WRITE_AND_DIE = """
import os, sys
from nightmill.safety.streams import guard_streams
guard_streams()
sys.stderr.write("a line\\n")
os._exit(0)  # writes nothing that is still in a buffer
"""


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_line_of_the_log_is_written_at_once(options: list[str]) -> None:
    """Also with -u or PYTHONUNBUFFERED, as containers set it, a line waits for no other line."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *options, "-c", WRITE_AND_DIE]
    done = subprocess.run(command, env=env, stderr=subprocess.PIPE, check=True)
    assert done.stderr == b"a line\n"
