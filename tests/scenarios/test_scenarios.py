"""Some short scenarios run with the tests. `python -m tests.scenarios` plays all."""

from __future__ import annotations

import random

import pytest

from tests.scenarios.fleet import Fleet
from tests.scenarios.scenario import HERE, Scenario, load, play
from tests.scenarios.server import Conditions, Kind, Server

SHORT = [s for folder in (HERE, HERE / "judge") for s in load(folder) if s.short]


@pytest.mark.parametrize("scenario", SHORT, ids=[s.name for s in SHORT])
def test_the_lane_stays_in_the_accepted_ranges(scenario: Scenario) -> None:
    """These are the conditions that most users meet first, with one seed each."""
    found = play(scenario, scenario.seeds[0])
    missed = [f.misses(wanted) for f, wanted in zip(found, scenario.expect, strict=True)]
    assert not any(missed), f"{missed} in {found}"


class Full(Server):
    """A server whose limit is used up at first: it refuses ten calls, and names a dimension."""

    named = "input"

    def gate(self, kind: Kind) -> str:
        """Refuse until ten calls were refused."""
        return self.named if self.refused < 10 else super().gate(kind)


@pytest.mark.parametrize("named", ["input", "output", "requests", "window"])
def test_jobs_end_soon_after_a_start_with_ten_refusals(named: str) -> None:
    """Refusals before anything was accepted say nothing about a limit; one of 0 was learned."""
    rng = random.Random(1)
    server = Full(Conditions(named=True), rng)
    server.named = named
    fleet = Fleet(server, rng, kinds=(Kind(latency=1.0),), jobs=30)
    fleet.run(60.0)
    assert len(fleet.ended) == 30
