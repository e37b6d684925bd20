"""Bodies that no SDK sends, and downloads that break off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from nightmill.errors import StoreUnavailableError
from tests.gateway.messages.test_messages import PATH, body
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.door import Door
    from tests.rig import Rig

BATCHES = "/v1/messages/batches"
PATHS = (PATH, BATCHES, "/v1/jobs")
JSON = {"content-type": "application/json"}


def sent_to(path: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a create that asks for `params`."""
    if path == BATCHES:
        return {"requests": [{"custom_id": "a", "params": params}]}
    return params if path == PATH else {"params": params}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["a\x00b", "a\nb", "\x7f", "m" * 257])
async def test_a_model_is_a_name(door: Door, path: str, model: str) -> None:
    """It names a lane and is in columns: PostgreSQL has no NUL, and a log no line feed in it."""
    answer = await door("POST", path, json=sent_to(path, body(model=model)))
    assert answer.error == (400, "invalid_request_error")
    assert "model: given" in answer.message
    assert "1 to 256 characters, none of them a control character" in answer.message


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_is_not_what_its_encoding_says(
    door: Door, path: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The client's fault is no defect of the gateway, and no traceback in its log."""
    headers = {**JSON, "content-encoding": "gzip"}
    answer = await door("POST", path, data=b"no gzip at all", headers=headers)
    assert answer.error == (400, "invalid_request_error")
    assert "content-encoding" in answer.message
    assert (await door("GET", BATCHES)).json["data"] == []
    assert "Traceback" not in capfd.readouterr().err
    assert not caplog.records


async def test_a_number_with_too_many_digits(door: Door) -> None:
    """The text is for the client, not about the gateway's own language."""
    data = b'{"requests": [{"custom_id": "a", "params": {"max_tokens": ' + b"9" * 5000 + b"}}]}"
    answer = await door("POST", BATCHES, data=data, headers=JSON)
    assert answer.error == (400, "invalid_request_error")
    assert answer.message == "not JSON: a number has too many digits"


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), TimeoutError(), ValueError("x")])
async def test_results_that_break_off_do_not_look_whole(
    rig: Rig, door: Door, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A client would take the lines that it got for all of them."""
    made = await door("POST", BATCHES, json=sent_to(BATCHES, body()))

    async def ended() -> bool:
        found = await door("GET", f"{BATCHES}/{made.json['id']}")
        return bool(found.json["processing_status"] == "ended")

    async with rig.working():
        await until(ended)
    batches = door.services.message_batches
    ends = batches.ends

    async def broken(batch: str) -> AsyncIterator[Any]:
        async for page in ends(batch):
            yield page
        raise error

    monkeypatch.setattr(batches, "ends", broken)
    with pytest.raises(aiohttp.ClientPayloadError):
        await door("GET", f"{BATCHES}/{made.json['id']}/results")
