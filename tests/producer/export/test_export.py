"""Exported lines: their shape, their order, and a file that is complete or not there."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill.export import export_jsonl, to_line
from nightmill.records.result import Attempt, ErrorInfo
from nightmill.records.state import JobState
from nightmill.store import ResultStore
from tests.producer.store.samples import FAILED, SINGLE, SUCCEEDED, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nightmill.records.result import Result


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open a store that holds a batch of three, recorded out of order."""
    async with ResultStore.open(tmp_path / "results.db") as opened:
        await opened.record([FAILED, SUCCEEDED, numbered(1), SINGLE])
        yield opened


def line_of(result: Result) -> dict[str, Any]:
    """Return the exported line of `result` as Python reads it."""
    line = to_line(result)
    assert line.count(b"\n") == 1
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def outputs(folder: Path) -> list[str]:
    """Return the names of the output files in `folder`."""
    return [each.name for each in folder.iterdir() if "out" in each.name]


def test_a_success_is_the_message_batches_shape_with_the_messages_own_bytes() -> None:
    """A reader of Message Batches results can read it; numbers and their order are unchanged."""
    line = line_of(SUCCEEDED)
    assert line["custom_id"] == "line-7"
    assert line["result"]["type"] == "succeeded"
    assert bytes(SUCCEEDED.message or b"") in to_line(SUCCEEDED)
    assert (line["stop_reason"], line["request_id"], line["worker"]) == (
        *("end_turn", "req_2"),
        "host:1",
    )
    assert line["usage"]["cache_read_input_tokens"] == 33


def test_answers_that_were_not_accepted_are_exported() -> None:
    """They were paid for, and show why the job failed. A line stays one line."""
    answer = msgspec.Raw(b'{"content":[\n]}')
    turn = Attempt(n=1, started_at=1, outcome="continued", answer=answer)
    error = ErrorInfo(type="truncated", message="cut at max_tokens 8")
    row = msgspec.structs.replace(
        SUCCEEDED, status=JobState.FAILED, error=error, stop_reason="max_tokens", attempts=(turn,)
    )
    line = line_of(row)
    assert line["result"]["error"]["error"]["type"] == "invalid_request_error"
    assert line["error_type"] == "truncated"
    assert line["answer"] == SUCCEEDED.message
    assert line["attempts"][0]["answer"] == {"content": []}
    assert line_of(SUCCEEDED)["answer"] is None


def test_a_failure_says_what_went_wrong_and_what_to_fix() -> None:
    """The endpoint's error in the Batches shape, and our advice in a field of its own."""
    line = line_of(FAILED)
    error = {"type": "invalid_request_error", "message": "max_tokens: 0"}
    assert line["result"] == {"type": "errored", "error": {"type": "error", "error": error}}
    assert (line["error_type"], line["fix"]) == ("invalid_request_error", "give at least 1")


def test_an_error_of_our_own_is_exported_as_one_of_the_apis_with_ours_beside_it() -> None:
    """The SDK's MessageBatchIndividualResponse refused rows with attachment_refused or http_405."""
    refused = ErrorInfo(type="attachment_refused", message="no PNG")
    line = line_of(msgspec.structs.replace(FAILED, error=refused))
    assert line["result"]["error"]["error"] == {
        "type": "invalid_request_error",
        "message": "no PNG",
    }
    assert line["error_type"] == "attachment_refused"


def test_a_gateways_error_is_exported_by_the_status_of_the_last_call() -> None:
    """A gateway's own type is unknown to the SDK; the status says which of the API's it is."""
    call = Attempt(n=1, started_at=1, outcome="failed", status=503)
    error = ErrorInfo(type="server_error", message="busy")
    line = line_of(msgspec.structs.replace(FAILED, error=error, attempts=(call,)))
    assert line["result"]["error"]["error"]["type"] == "overloaded_error"
    assert line["error_type"] == "server_error"


@pytest.mark.parametrize(
    ("status", "kind"), [(JobState.CANCELLED, "canceled"), (JobState.EXPIRED, "expired")]
)
def test_a_job_that_never_answered_has_only_a_type(status: JobState, kind: str) -> None:
    """The API spells canceled with one l."""
    assert line_of(numbered(1, status=status))["result"] == {"type": kind}


def test_times_are_rfc_3339_and_unknown_ones_null() -> None:
    """People and pandas read RFC 3339; rows hold epoch milliseconds."""
    line = line_of(SUCCEEDED)
    assert line["enqueued_at"] == "2023-11-14T22:13:20.123Z"
    assert line["finished_at"] == "2023-11-14T22:13:22.005Z"
    assert line["attempts"][0]["started_at"] == "1970-01-01T00:00:02.000Z"
    assert line["attempts"][0]["wait_ms"] == 1000
    assert line_of(SINGLE)["started_at"] is None


def test_a_message_with_line_breaks_still_is_one_line() -> None:
    """Some gateways answer with indented JSON."""
    message = msgspec.Raw(b'{\n  "n": 1.50,\r\n  "text": "a\\nb"\n}')
    line = line_of(numbered(1, message=message))
    assert line["result"]["message"] == {"n": 1.5, "text": "a\nb"}


async def test_a_file_has_the_batch_in_the_order_of_its_source(
    store: ResultStore, tmp_path: Path
) -> None:
    """Line n of the output is for line n of the input; the same rows give the same bytes."""
    out = tmp_path / "out.jsonl"
    assert await export_jsonl(store, "night", out) == 3
    expected = b"".join(map(to_line, (numbered(1), SUCCEEDED, FAILED)))
    assert out.read_bytes() == expected
    assert await export_jsonl(store, "night", out) == 3
    assert out.read_bytes() == expected
    assert outputs(tmp_path) == ["out.jsonl"]


async def test_only_the_statuses_asked_for_are_written(store: ResultStore, tmp_path: Path) -> None:
    """`results --failed` writes the failed lines only."""
    out = tmp_path / "out.jsonl"
    assert await export_jsonl(store, "night", out, statuses=[JobState.FAILED]) == 1
    assert out.read_bytes() == to_line(FAILED)


async def test_a_dash_writes_to_stdout(
    store: ResultStore, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The lines can be piped to another program."""
    assert await export_jsonl(store, "", "-") == 1
    assert capfdbinary.readouterr().out == to_line(SINGLE)


class Breaking(ResultStore):
    """A store that goes away after the first row."""

    async def stream(self, batch: str, **_asked: object) -> AsyncIterator[Result]:
        """Yield one row, then raise."""
        yield numbered(1, batch=batch)
        raise ConnectionError


async def test_a_failed_export_leaves_the_old_file_and_nothing_else(
    store: ResultStore, tmp_path: Path
) -> None:
    """Half a file under the right name would look complete."""
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(ConnectionError):
        await export_jsonl(Breaking(store._database), "night", out)
    assert out.read_text() == "old"
    assert outputs(tmp_path) == ["out.jsonl"]


async def test_a_link_keeps_pointing_at_the_file_that_is_replaced(
    store: ResultStore, tmp_path: Path
) -> None:
    """`latest.jsonl` stays a link."""
    link = tmp_path / "latest.jsonl"
    link.symlink_to(tmp_path / "real.jsonl")
    await export_jsonl(store, "night", link)
    assert link.is_symlink()
    assert (tmp_path / "real.jsonl").read_bytes().count(b"\n") == 3


async def test_a_pipe_is_written_to_and_not_replaced(store: ResultStore, tmp_path: Path) -> None:
    """`-o /dev/null` must not turn the device into a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert await export_jsonl(store, "night", pipe) == 3
        assert os.read(reader, 1 << 16).count(b"\n") == 3
    finally:
        os.close(reader)
    assert pipe.is_fifo()
