"""Names that a user may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

CLOSE: Final = 0.7
"""How like a name must be: 1 is the same, 0 has nothing in common (difflib's ratio)."""


def closest(name: str, known: Iterable[object]) -> str | None:
    """Return the known name that is most like `name`, or None. Case and signs do not count."""
    names = {_folded(str(each)): str(each) for each in known}
    return next((names[each] for each in get_close_matches(_folded(name), names, 1, CLOSE)), None)


def _folded(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
