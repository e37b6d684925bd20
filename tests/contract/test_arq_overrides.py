"""arq is pinned, and what we override in it is known by its source: a change must be looked at."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version

import pytest
from arq.worker import Worker

from nightmill_worker.fleet.worker import FleetWorker

# method -> hash of arq's source. When one changes: read arq's change, adapt FleetWorker, and
# only then write the new hash here.
SEEN = {
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
    """A new override, even one by accident, is named here."""
    assert overridden() == set(SEEN)


@pytest.mark.parametrize("name", sorted(SEEN))
def test_arq_has_not_changed_what_we_replace(name: str) -> None:
    """Our version was written against this source and no other."""
    source = inspect.getsource(getattr(Worker, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == SEEN[name]


def test_arq_is_the_version_we_read() -> None:
    """The pin in pyproject and what is installed agree."""
    assert version("arq") == "0.28.0"
