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
_LOCAL: Final = re.compile(r"local (\w+) = .*\n")


@cache
def source(name: str) -> str:
    """Return lua/<name>.lua after the names and the shared parts that it uses.

    A full Redis refuses producers, never workers: only finished jobs give memory back. Of the key
    names, only those that it uses are in it: Lua allows 200 local variables.
    """
    lua = files("nightmill_worker.queue").joinpath("lua")
    parts = (*_SHARED.get(name, ("common",)), name)
    text = "".join(map(part, _CLIENTS.get(name, ())))
    text += "".join(lua.joinpath(f"{each}.lua").read_text() for each in parts)
    words = set(re.findall(r"\w+", text))
    names = (found[0] for found in _LOCAL.finditer(lua_prelude()) if found[1] in words)
    first = "#!lua\n" if name in _NOT_WHEN_FULL else ALLOW_OOM
    return first + "".join(names) + text
