"""Fixtures: one simulator for the session, and a folder of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shell import Endpoint, Shell, simulated

AS_STARTED: dict[str, object] = {
    "latency_s": 0.1,
    "rpm": None,
    "auth": None,
    "down": None,
    "faults": [],
    "schema": None,
    "invalid": 0,
}


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Return the simulated endpoint, which runs in a process of its own."""
    with simulated(tmp_path_factory.mktemp("simulator")) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(simulator: Endpoint) -> Endpoint:
    """Return the endpoint with its first settings and all counts at zero."""
    simulator.configure(**AS_STARTED)
    simulator.reset()
    return simulator


@pytest.fixture
def shell(tmp_path: Path, endpoint: Endpoint) -> Iterator[Shell]:
    """Return a shell with the endpoint and a key set; no process of it may run at the end."""
    shell = Shell(tmp_path, base_url=endpoint.url, api_key="any-key")
    yield shell
    shell.assert_nothing_runs()
