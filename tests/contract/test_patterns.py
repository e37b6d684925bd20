"""Regular expressions that every Python from 3.11.0 on matches alike."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
POSSESSIVE_GROUP = re.compile(r"\)[*+?]\+")


def test_no_group_is_repeated_possessively() -> None:
    """Debian's 3.11.2 repaired no answer: `(...)++` kept a part of what did not match."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("producer", "worker")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if POSSESSIVE_GROUP.search(line) and not line.startswith("#")
    ]
    assert found == []
