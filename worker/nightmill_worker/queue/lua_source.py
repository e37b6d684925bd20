"""The worker's Lua scripts, each put together from key names, shared parts, and the script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from nightmill.queue.wire import ALLOW_OOM, lua_prelude, part

_SHARED: Final = {
    "claim": ("common", "lane_state", "lane", "batch"),
    "settle": ("common", "lane_state", "lane"),
}
_MOVES_BATCHES: Final = ("claim", "finish", "sweep")
"""Scripts that may change the state of a batch: they use the client's flag.lua."""


@cache
def source(name: str) -> str:
    """Return lua/<name>.lua after the names and the shared parts that it uses.

    A full Redis refuses producers, never workers: only finished jobs give memory back.
    """
    lua = files("nightmill_worker.queue").joinpath("lua")
    first = ALLOW_OOM + lua_prelude() + (part("flag") if name in _MOVES_BATCHES else "")
    parts = (*_SHARED.get(name, ("common",)), name)
    return first + "".join(lua.joinpath(f"{each}.lua").read_text() for each in parts)
