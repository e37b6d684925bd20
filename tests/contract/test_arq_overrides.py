"""arq is pinned, and the source of each method we override is known by its hash."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version

import pytest
from arq.worker import Worker

from nightmill_worker.fleet.worker import FleetWorker

# Method -> hash of arq's source. When one changes: read the change in arq, adapt FleetWorker, then
# write the new hash here.
HASHES = {
    "__init__": "edfb0cd7e05e77cf",
    "__repr__": "0f2988960485379d",
    "close": "5bcc9cb356680829",
    "handle_sig": "985ff7ba01aa8f04",
    "main": "45ca1591c9717466",
}


def overridden() -> set[str]:
    """Return the names of arq's own methods that FleetWorker replaces."""
    ours = {name for name, value in vars(FleetWorker).items() if inspect.isfunction(value)}
    return ours & set(vars(Worker))


def test_the_list_is_complete() -> None:
    """Every override has its hash here, also one made by accident."""
    assert overridden() == set(HASHES)


@pytest.mark.parametrize("name", sorted(HASHES))
def test_arq_has_not_changed_a_method_we_override(name: str) -> None:
    """Our version was written for this source."""
    source = inspect.getsource(getattr(Worker, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == HASHES[name]


def test_arq_is_the_pinned_version() -> None:
    """The installed version is the one in pyproject."""
    assert version("arq") == "0.28.0"
