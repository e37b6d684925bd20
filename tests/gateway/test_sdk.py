"""The official Python SDK, unchanged but for its base URL and its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.batches.made import request
from tests.gateway.jobs.test_jobs import params
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.door import Door
    from tests.rig import Rig

anthropic: Any = pytest.importorskip("anthropic")


@pytest.fixture
async def sdk(door: Door) -> AsyncIterator[Any]:
    """Return a client of the gateway."""
    async with anthropic.AsyncAnthropic(base_url=door.url, api_key=door.key) as client:
        yield client


async def test_message_batches(rig: Rig, sdk: Any) -> None:  # noqa: ANN401 - it is optional
    """Create, poll, results, list with paging, cancel, delete."""
    batches = sdk.messages.batches
    async with rig.working():
        made = await batches.create(requests=[request(number) for number in range(10)])
        assert made.request_counts.processing == 10

        async def ended() -> bool:
            return bool((await batches.retrieve(made.id)).processing_status == "ended")

        await until(ended)
    results = [line async for line in await batches.results(made.id)]
    assert [line.custom_id for line in results] == [f"c{number}" for number in range(10)]
    assert {line.result.type for line in results} == {"succeeded"}
    assert results[0].result.message.content[0].type == "text"
    others = [await batches.create(requests=[request(number)]) for number in range(4)]
    ids = [batch.id async for batch in batches.list(limit=2)]
    assert ids == [batch.id for batch in (*others[::-1], made)]
    cancelled = await batches.cancel(others[0].id)
    assert cancelled.processing_status in {"canceling", "ended"}
    deleted = await batches.delete(made.id)
    assert (deleted.id, deleted.type) == (made.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await sdk.beta.messages.batches.retrieve(made.id)


async def test_messages(rig: Rig, sdk: Any) -> None:  # noqa: ANN401 - as above
    """Whole, as a stream of events, and with the SDK's own accumulation of the stream."""
    async with rig.working():
        whole = await sdk.messages.create(**params())
        async with sdk.messages.stream(**params()) as stream:
            text = "".join([part async for part in stream.text_stream])
            streamed = await stream.get_final_message()
        kinds = [event.type async for event in await sdk.messages.create(**params(), stream=True)]
    assert text == streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.usage) == (whole.stop_reason, whole.usage)
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


async def test_errors_are_those_of_the_sdk(door: Door, sdk: Any) -> None:  # noqa: ANN401 - as above
    """A service handles them as it handles the provider's own."""
    with pytest.raises(
        anthropic.BadRequestError, match=r"requests\.0\.params\.max_tokens"
    ) as caught:
        await sdk.messages.batches.create(requests=[request(1, max_tokens=0)])
    assert caught.value.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        await sdk.messages.create(**params() | {"messages": []})
    with pytest.raises(anthropic.AuthenticationError):
        await sdk.with_options(api_key="nm_wrong").messages.create(**params())
    bearer = anthropic.AsyncAnthropic(base_url=door.url, auth_token=door.key, api_key=None)
    async with bearer:
        assert (await bearer.messages.batches.list()).data == []
