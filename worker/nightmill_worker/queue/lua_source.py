"""The worker's Lua scripts, each put together from key names, shared parts, and the script."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

from nightmill.queue.wire import ALLOW_OOM, lua_prelude, part

_SHARED: Final = {
    "claim": (
        *("common", "lane_state", "lane", "lane_names", "account", "trials"),
        *("verdict", "batch", "payers", "aborts", "shares"),
    ),
    "finish": ("common", "payers"),
    "release": ("common", "payers"),
    "settle": ("common", "lane_state", "lane", "account", "weigh"),
}
_CLIENTS: Final = {
    "claim": ("flag", "request"),
    "finish": ("flag", "request"),
    "release": ("request",),
    "sweep": ("flag",),
}
"""Scripts -> the shared parts of the client's scripts that they use."""
_NOT_WHEN_FULL: Final = ("history",)
"""Scripts that a full Redis refuses: what they write is not needed to finish jobs."""
_NAME: Final = re.compile(r"local (\w+) = (.*)\n")
_WORD: Final = re.compile(r"'[^'\n]*'|--[^\n]*|\b[A-Z][A-Z_]*\b")
"""A string, a comment, or a name in capital letters."""


@cache
def source(name: str) -> str:
    """Return lua/<name>.lua after the shared parts that it uses, with the names of keys filled in.

    A full Redis refuses producers, never workers: only finished jobs give memory back. The names
    are no variables: Lua allows 200 local ones, and a script with more is refused by Redis.
    """
    lua = files("nightmill_worker.queue").joinpath("lua")
    parts = (*_SHARED.get(name, ("common",)), name)
    text = "".join(map(part, _CLIENTS.get(name, ())))
    text += "".join(lua.joinpath(f"{each}.lua").read_text() for each in parts)
    keys = dict(_NAME.findall(lua_prelude()))
    first = "#!lua\n" if name in _NOT_WHEN_FULL else ALLOW_OOM
    return first + _WORD.sub(lambda found: keys.get(found[0], found[0]), text)
