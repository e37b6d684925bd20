"""What each script of the worker is made of."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

import pytest

from nightmill.queue.keys import GRANT
from nightmill_worker.queue.lua_source import source

SCRIPTS: Final = ("claim", "finish", "govern", "release", "settle", "sweep")
LUA_MOST: Final = 200
"""Local variables of one function, in Lua 5.1."""
SPARE: Final = 10
_LOCAL: Final = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_places_for_more_variables(name: str) -> None:
    """One more than Lua allows, and Redis refuses every claim of the fleet."""
    found = [line for line in map(_LOCAL.match, source(name).splitlines()) if line]
    assert sum(line[1].count(",") + 1 for line in found) <= LUA_MOST - SPARE


def test_names_of_keys_are_filled_in_but_not_in_strings_and_comments() -> None:
    """A Redis command in a string may be spelt as a name is."""
    text = source("claim")
    assert re.search(r"\bGRANT\b", text) is None
    assert f"'{GRANT}' .. ask.worker" in text
    own = files("nightmill_worker.queue").joinpath("lua", "claim.lua").read_text()
    for comment in re.findall(r"^--.*$", own, re.MULTILINE):
        assert comment in text
