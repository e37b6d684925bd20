"""The worker's Lua scripts, each put together from key names, shared parts, and the script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from nightmill.queue.wire import lua_prelude

ALLOW_OOM: Final = "#!lua flags=allow-oom\n"
"""A full Redis refuses producers, never workers: only finished jobs give memory back."""
_SHARED: Final = {
    "claim": ("common", "lane_state", "lane", "batch"),
    "settle": ("common", "lane_state", "lane"),
}


@cache
def source(name: str) -> str:
    """Return lua/<name>.lua after the names and the shared parts that it uses."""
    lua = files("nightmill_worker.queue").joinpath("lua")
    parts = (*_SHARED.get(name, ("common",)), name)
    return ALLOW_OOM + lua_prelude() + "".join(lua.joinpath(f"{p}.lua").read_text() for p in parts)
