"""Functions as an operator writes them. A check process imports this module by its name."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from nightmill.records.message import Message


def short(message: Message, row: dict[str, Any]) -> str | None:
    """Want a short label, and say for whom."""
    label = (row["output"] or {}).get("label", message.text)
    return None if len(label) < 9 else f"{row['custom_id']}: {label} is too long"


async def later(message: Message, _row: dict[str, Any]) -> str | None:
    """Be a coroutine function."""
    return None if message.text else "empty"


def noisy(_message: Message, _row: dict[str, Any]) -> None:
    """Print, as people do while they write a check."""
    print("printed")


def raises(_message: Message, _row: dict[str, Any]) -> None:
    """Be wrong."""
    raise KeyError("price")


def exits(_message: Message, _row: dict[str, Any]) -> None:
    """Leave the interpreter."""
    raise SystemExit(3)


def odd(_message: Message, _row: dict[str, Any]) -> bool:
    """Return what is no text."""
    return True


def dies(_message: Message, _row: dict[str, Any]) -> None:
    """End the process, as a crash in a library does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def dies_once(_message: Message, row: dict[str, Any]) -> None:
    """End the process the first time."""
    mark = Path(row["params"]["mark"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def hangs(_message: Message, row: dict[str, Any]) -> None:
    """Never return."""
    if mark := row["params"].get("mark"):
        Path(mark).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


NO_FUNCTION = 5


def stuck(_message: Message, row: dict[str, Any]) -> None:
    """Never return, within the interpreter: no other thread runs."""
    Path(row["params"]["mark"]).write_text(str(os.getpid()))
    re.match("(a+)+$", "a" * 40 + "b")


def half_characters(_message: Message, _row: dict[str, Any]) -> str:
    """Quote half of a surrogate pair, which JSON may hold and no encoder takes."""
    return "not \ud800"
