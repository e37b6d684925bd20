"""The admin routes: counts and config over HTTP."""

from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import pytest

from nightmill_worker.simulator import Simulator, SimulatorConfig
from tests.worker.simulator.helpers import Ask

Admin = Callable[..., Awaitable[tuple[int, dict[str, object]]]]


@pytest.fixture
def admin(session: aiohttp.ClientSession) -> Admin:
    """Return a function that calls an admin route and returns its status and JSON body."""

    async def call(
        sim: Simulator, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, object]]:
        data = None if body is None else msgspec.json.encode(body)
        async with session.request(method, sim.url + path, data=data) as reply:
            return reply.status, await reply.json()

    return call


async def test_calls_are_counted_per_prompt(ask: Ask, admin: Admin) -> None:
    """The count of a prompt shows whether its job was paid for twice."""
    async with Simulator() as sim:
        for user in ("job-1", "job-2", "job-2"):
            await ask(sim, metadata={"user_id": user})
        _, calls = await admin(sim, "GET", "/admin/calls")
        _, stats = await admin(sim, "GET", "/admin/stats")
    one = {"calls": 1, "answered": 1, "refused": 0, "failed": 0, "abandoned": 0}
    assert calls == {"prompts": {"job-1": one, "job-2": one | {"calls": 2, "answered": 2}}}
    assert stats["totals"] == one | {"calls": 3, "answered": 3}
    assert stats["answered_more_than_once"] == 1
    assert stats["statuses"] == {"200": 3}
    assert (stats["prompts"], stats["in_flight"], stats["max_in_flight"]) == (2, 0, 1)
    first, last = stats["first_request_at"], stats["last_response_at"]
    assert isinstance(first, float)
    assert isinstance(last, float)
    assert first <= last


async def test_the_config_changes_while_it_runs(ask: Ask, admin: Admin) -> None:
    """A change may name some settings only; the answer is the new config without its key."""
    async with Simulator(SimulatorConfig(auth="k")) as sim:
        status, shown = await admin(sim, "POST", "/admin/config", {"rpm": 60, "burst": 1})
        replies = [await ask(sim) for _ in range(2)]
        _, read = await admin(sim, "GET", "/admin/config")
        assert sim.config.auth == "k"
    assert (status, shown["rpm"], shown["auth"]) == (200, 60, "***")
    assert read == shown
    assert [reply.status for reply in replies] == [200, 429]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rpm": -1}, "rpm: "),
        ({"speed": 1}, "speed: no such setting"),
        ({"faults": [{"status": 529, "share": 2}]}, "faults[0].share: "),
        ({"burst": 3}, "burst: needs rpm"),
        ([], "Expected `object`"),
    ],
)
async def test_an_invalid_change_is_refused_and_changes_nothing(
    admin: Admin, change: object, message: str
) -> None:
    """The message names the field."""
    async with Simulator() as sim:
        before = sim.config
        status, body = await admin(sim, "POST", "/admin/config", change)
        assert sim.config == before
    assert status == 400
    error = msgspec.convert(body["error"], dict[str, str])
    assert error["message"].startswith(message)


async def test_a_reset_clears_counts_and_keeps_buckets(ask: Ask, admin: Admin) -> None:
    """A measurement can leave its warm-up out."""
    async with Simulator(SimulatorConfig(rpm=60)) as sim:
        await ask(sim)
        _, stats = await admin(sim, "POST", "/admin/reset")
        assert stats["prompts"] == 0
        assert stats["first_request_at"] is None
        reply = await ask(sim)
        _, stats = await admin(sim, "GET", "/admin/stats")
    assert reply.headers["anthropic-ratelimit-requests-remaining"] == "58"
    assert msgspec.convert(stats["totals"], dict[str, int])["calls"] == 1


async def test_the_health_route_answers(admin: Admin) -> None:
    """Scripts wait for it after they start the simulator."""
    async with Simulator() as sim:
        assert await admin(sim, "GET", "/healthz") == (200, {"status": "ok"})
        status, _ = await admin(sim, "POST", "/healthz")
        assert status == 405
