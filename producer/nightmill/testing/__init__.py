"""For the tests of a service that uses nightmill; docs/testing.md shows how.

`MemoryProducer` and `SyncMemoryProducer` need no Redis and answer at once. `fake_mill` runs all of
nightmill, with a simulated endpoint, for the length of a block. The pytest plugin gives them as
fixtures: `memory_producer` and `fake_mill`. `check_store` checks a store of one's own. Nothing here
is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.testing.memory import MemoryBatch, MemoryProducer, SyncMemoryProducer
    from nightmill.testing.mill import FakeMill, fake_mill
    from nightmill.testing.stores import check_store

__all__ = [
    "FakeMill",
    "MemoryBatch",
    "MemoryProducer",
    "SyncMemoryProducer",
    "check_store",
    "fake_mill",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = {"FakeMill": "mill", "fake_mill": "mill", "check_store": "stores"}.get(
            name, "memory"
        )
        globals()[name] = getattr(import_module(f"nightmill.testing.{module}"), name)
        return globals()[name]
