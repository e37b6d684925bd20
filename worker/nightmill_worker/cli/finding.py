"""What a check of `nightmill doctor` found."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    what: str
    """What was checked."""
    ok: bool
    observed: str
    """What the check found."""
    warns: bool = False
    """Whether it works, but not as well as it could."""
    fix: str = ""
    """What to do, "" when nothing."""
