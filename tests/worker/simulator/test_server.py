"""The server over real connections: contract, limits, faults, counts."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from nightmill_worker.simulator import Fault, Simulator, SimulatorConfig, serve
from tests.worker.simulator.helpers import HEADERS, Ask, params


async def test_a_call_is_answered_with_a_message(ask: Ask) -> None:
    """Every client relies on this shape."""
    async with Simulator() as sim:
        reply = await ask(sim)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["request-id"].startswith("req_")
    assert reply.json["type"] == "message"


async def test_a_key_is_required(ask: Ask) -> None:
    """Either header is accepted; no key or another key is a 401."""
    version = {"anthropic-version": "2023-06-01"}
    async with Simulator(SimulatorConfig(auth="right")) as sim:
        none = await ask(sim, headers=version)
        wrong = await ask(sim, headers=version | {"x-api-key": "wrong"})
        right = await ask(sim, headers=version | {"x-api-key": "right"})
        bearer = await ask(sim, headers=version | {"authorization": "Bearer right"})
    assert [none.status, wrong.status, right.status, bearer.status] == [401, 401, 200, 200]
    assert none.error == {
        "type": "authentication_error",
        "message": "x-api-key header is required",
    }
    assert wrong.error["message"] == "invalid x-api-key"
    assert wrong.json["request_id"] == wrong.headers["request-id"]


async def test_errors_of_the_contract_have_their_bodies(ask: Ask) -> None:
    """400, 404 and 413 have the error type that belongs to each."""
    async with Simulator() as sim:
        no_version = await ask(sim, headers={"x-api-key": "k"})
        bad = await ask(sim, max_tokens=0)
        missing = await ask(sim, model="missing-1")
        large = await ask(sim, raw=b" " * (32 * 1024 * 1024 + 1))
        counts = sim.ledger.totals
    assert (no_version.status, no_version.error["type"]) == (400, "invalid_request_error")
    assert bad.error["message"] == "max_tokens: must be greater than or equal to 1"
    assert (missing.status, missing.error["type"]) == (404, "not_found_error")
    assert (large.status, large.error["type"]) == (413, "request_too_large")
    assert (counts.calls, counts.failed) == (4, 4)


async def test_one_prompt_or_one_model_is_refused(ask: Ask) -> None:
    """A firewall, a model that the key may not use, and an error that repeats the prompt."""
    config = SimulatorConfig(block="<script>", echo="credit", deny_model="m")
    async with Simulator(config) as sim:
        turns = [{"role": "user", "content": text} for text in ("a <script>", "my credit", "good")]
        blocked, echoed, good = [await ask(sim, messages=[each]) for each in turns]
        denied = await ask(sim, messages=turns[2:], model="m")
    assert (blocked.status, blocked.body[:6]) == (403, b"<html>")
    assert (echoed.status, denied.status, good.status) == (400, 403, 200)
    assert "my credit" in echoed.error["message"]
    assert denied.error["type"] == "permission_error"


async def test_a_body_of_several_megabytes_is_read(ask: Ask) -> None:
    """Requests with images are larger than a web server's usual limit."""
    async with Simulator() as sim:
        reply = await ask(sim, messages=[{"role": "user", "content": "x" * 5_000_000}])
    assert reply.status == 200


async def test_a_chunked_body_above_the_limit_is_refused(session: aiohttp.ClientSession) -> None:
    """Its size is not declared, so it is known only while it is read."""
    chunks = [b" " * (1024 * 1024)] * 33

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async with (
        Simulator() as sim,
        session.post(f"{sim.url}/v1/messages", data=body(), headers=HEADERS) as reply,
    ):
        assert reply.status == 413


async def test_unknown_routes_and_methods_are_refused(session: aiohttp.ClientSession) -> None:
    """The errors are JSON, too."""
    async with Simulator() as sim:
        async with session.get(f"{sim.url}/v1/other") as reply:
            assert reply.status == 404
            assert (await reply.json())["error"]["type"] == "not_found_error"
        async with session.get(f"{sim.url}/v1/messages") as reply:
            assert reply.status == 405
            assert reply.headers["allow"] == "POST"
        async with session.post(
            f"{sim.url}/v1/messages?beta=true", json=params(), headers=HEADERS
        ) as reply:
            assert reply.status == 200


async def test_requests_over_the_limit_are_refused_with_retry_after(ask: Ask) -> None:
    """The burst is admitted; a 429 names the wait and the requests left."""
    async with Simulator(SimulatorConfig(rpm=6, burst=2)) as sim:
        replies = [await ask(sim) for _ in range(3)]
        key_counts = next(iter(sim.ledger.prompts.values()))
    assert [reply.status for reply in replies] == [200, 200, 429]
    refused = replies[2]
    assert refused.error["type"] == "rate_limit_error"
    assert "6 requests per minute" in refused.error["message"]
    assert refused.headers["retry-after"] == "10"
    remaining = [reply.headers["anthropic-ratelimit-requests-remaining"] for reply in replies]
    assert remaining == ["1", "0", "0"]
    assert (key_counts.calls, key_counts.answered, key_counts.refused) == (3, 2, 1)


async def test_headers_and_the_usual_error_type_can_be_switched_off(ask: Ask) -> None:
    """Many compatible servers send a 429 and nothing else."""
    config = SimulatorConfig(
        rpm=6, burst=1, headers=False, retry_after=False, rate_limit_type="rate_limit_exceeded"
    )
    async with Simulator(config) as sim:
        first, second = [await ask(sim) for _ in range(2)]
    assert (first.status, second.status) == (200, 429)
    assert second.error["type"] == "rate_limit_exceeded"
    assert "retry-after" not in second.headers
    assert not [name for name in second.headers if name.lower().startswith("anthropic-")]


async def test_the_cap_refuses_calls_beside_those_in_flight(ask: Ask) -> None:
    """A limit on concurrent calls holds at any rate."""
    async with Simulator(SimulatorConfig(cap=2, latency_s=0.2)) as sim:
        replies = await asyncio.gather(*(ask(sim) for _ in range(5)))
        stats = sim.stats()
    assert sorted(reply.status for reply in replies) == [200, 200, 429, 429, 429]
    assert stats["max_in_flight"] == 2
    assert sim.in_flight == 0


async def test_a_stopped_account_refuses_every_call(ask: Ask) -> None:
    """An outage, exhausted credit and a spend limit can be switched while it runs."""
    async with Simulator() as sim:
        sim.configure(down=529)
        outage = await ask(sim)
        sim.configure(down=None, credit_exhausted=True)
        credit = await ask(sim)
        sim.configure(credit_exhausted=False, spend_limit=True)
        spend = await ask(sim)
    assert (outage.status, outage.error["type"]) == (529, "overloaded_error")
    assert (credit.status, credit.error["type"]) == (400, "invalid_request_error")
    assert credit.error["message"].startswith("Your credit balance is too low")
    assert (spend.status, spend.error["type"]) == (429, "rate_limit_error")
    assert "spend limit" in spend.error["message"]
    assert "retry-after" not in spend.headers


async def test_the_same_seed_fails_the_same_calls(ask: Ask) -> None:
    """Two runs against two servers get the same answers."""
    config = SimulatorConfig(faults=(Fault(status=529, share=0.3),), should_retry=True)
    runs = []
    for _ in range(2):
        async with Simulator(config) as sim:
            prompts = [[{"role": "user", "content": f"Question {n}?"}] for n in range(40)]
            replies = await asyncio.gather(*(ask(sim, messages=prompt) for prompt in prompts))
            runs.append([(r.status, r.headers.get("x-should-retry")) for r in replies])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {(200, None), (529, "true")}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_truncated_body_breaks_off(ask: Ask, stream: bool) -> None:  # noqa: FBT001
    """The status is 200, and the body is cut."""
    async with Simulator(SimulatorConfig(truncate=1.0)) as sim:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(sim, stream=stream)
        assert (sim.ledger.totals.failed, sim.ledger.totals.answered) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dropped_call_gets_no_answer(ask: Ask, stream: bool) -> None:  # noqa: FBT001
    """The connection closes without a status line."""
    async with Simulator(SimulatorConfig(drop=1.0)) as sim:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await ask(sim, stream=stream)
        assert sim.ledger.totals.failed == 1


async def test_a_proxy_page_is_not_counted_as_an_answer(ask: Ask) -> None:
    """Its status is 200, but its body is no Message."""
    async with Simulator(SimulatorConfig(wrong_type=1.0)) as sim:
        reply = await ask(sim)
        assert sim.ledger.totals.failed == 1
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stalled_call_waits_until_the_client_closes(
    ask: Ask,
    stream: bool,  # noqa: FBT001
) -> None:
    """Then its slot is free, and it is counted as abandoned."""
    async with Simulator(SimulatorConfig(stall=1.0, cap=1)) as sim:
        call = asyncio.ensure_future(ask(sim, stream=stream))
        await sim.until(lambda: sim.in_flight == 1)
        call.cancel()
        await sim.until(lambda: sim.ledger.totals.abandoned == 1)
        assert sim.in_flight == 0
        assert next(iter(sim.ledger.prompts.values())).abandoned == 1


async def test_a_call_takes_its_latency(ask: Ask) -> None:
    """The events of a stream are spread over the latency; a plain answer comes at its end."""
    loop = asyncio.get_running_loop()
    async with Simulator(SimulatorConfig(latency_s=0.2)) as sim:
        started = loop.time()
        await asyncio.gather(ask(sim), ask(sim, stream=True))
        assert loop.time() - started >= 0.19


@pytest.mark.parametrize("reserve", [False, True])
async def test_both_ways_of_charging_output_end_at_the_same_level(
    ask: Ask,
    reserve: bool,  # noqa: FBT001
) -> None:
    """Reserved and refunded, or charged as generated: the bucket loses the real usage."""
    config = SimulatorConfig(otpm=60_000, otpm_reserve=reserve)
    async with Simulator(config) as sim:
        await ask(sim, max_tokens=30_000, stream=True)
        await ask(sim, max_tokens=50_000)
        again = await ask(sim, max_tokens=60_000)
    assert again.status == (429 if reserve else 200)
    assert again.headers["anthropic-ratelimit-output-tokens-remaining"] == "60000"


async def test_a_stop_cuts_calls_in_flight(ask: Ask) -> None:
    """A stop must not wait for a call that takes an hour."""
    async with Simulator(SimulatorConfig(latency_s=3600)) as sim:
        call = asyncio.ensure_future(ask(sim))
        await sim.until(lambda: sim.in_flight == 1)
    with pytest.raises(aiohttp.ClientError):
        await call


async def test_serve_reports_its_port_and_ends_when_cancelled(ask: Ask) -> None:
    """A command runs `serve` as one of several tasks."""
    ports: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.create_task(serve(SimulatorConfig(), ready=ports.put_nowait))
    port = await ports.get()
    with pytest.raises(OSError, match="address already in use"):
        await serve(SimulatorConfig(), port=port)
    assert (await ask(Simulator(port=port))).status == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
