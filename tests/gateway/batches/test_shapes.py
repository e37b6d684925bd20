"""The API's objects."""

from __future__ import annotations

import json

import msgspec
import pytest

from nightmill.records.counts import Counts
from nightmill.records.limits import Limits
from nightmill.records.message_batch import MessageBatch, id_before, is_id, new_id
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from nightmill.store.message_batches import End
from nightmill_gateway.batches.shapes import (
    message_batch,
    page,
    request_counts,
    result_line,
)

BATCH = MessageBatch(
    batch="msgbatch_x", tenant="t", total=10, created_at=1_000, expires_at=86_401_000
)


def test_ids_sort_by_their_time() -> None:
    """The list is in the order of ids, so that a page goes on exactly where the last one ended."""
    ids = [new_id(at) for at in (1, 2, 1 << 40)]
    assert ids == sorted(ids)
    assert ids[0] < id_before(2) <= ids[1]
    assert all(map(is_id, ids))
    assert len({new_id(1) for _ in range(100)}) == 100
    for wrong in ("", "msgbatch_", "prompts", ids[0] + "x", ids[0] + "\n", "\0"):
        assert not is_id(wrong)


@pytest.mark.parametrize(
    "counts",
    [
        Counts(),
        Counts(succeeded=3, failed=2, cancelled=1, expired=4),
        Counts(succeeded=3, in_flight=2, queued=1),
        Counts(succeeded=30, failed=2),
    ],
)
def test_counts_always_add_up(counts: Counts) -> None:
    """Clients compute what is left from them."""
    found = request_counts(BATCH, counts)
    assert sum(found.values()) == BATCH.total
    assert min(found.values()) >= 0


def test_an_ended_batch_keeps_its_counts() -> None:
    """What Redis says later, or has lost, does not change it."""
    ended = msgspec.structs.replace(
        BATCH, ended_at=5_000, succeeded=7, errored=1, canceled=2, expired=0
    )
    shown = message_batch(ended, Counts(succeeded=1), "http://x")
    assert shown["request_counts"] == {
        "processing": 0,
        "succeeded": 7,
        "errored": 1,
        "canceled": 2,
        "expired": 0,
    }
    assert shown["processing_status"] == "ended"
    assert shown["results_url"] == "http://x/v1/messages/batches/msgbatch_x/results"
    assert shown["ended_at"] == "1970-01-01T00:00:05.000Z"


def test_a_batch_says_what_it_does() -> None:
    """`canceling` also when a person cancelled it with the command."""
    assert message_batch(BATCH, Counts(), "")["processing_status"] == "in_progress"
    assert message_batch(BATCH, Counts(flag="cancelled"), "")["processing_status"] == "canceling"
    cancelled = msgspec.structs.replace(BATCH, cancel_initiated_at=2_000)
    assert message_batch(cancelled, Counts(), "")["processing_status"] == "canceling"
    assert message_batch(BATCH, Counts(), "")["results_url"] is None


def test_another_deadline_is_shown() -> None:
    """`nightmill adjust` may have set it; Redis's own rounding is no other deadline."""
    same = Counts(limits=Limits(expires_at=86_400_000))
    assert message_batch(BATCH, same, "")["expires_at"] == "1970-01-02T00:00:01.000Z"
    other = Counts(limits=Limits(expires_at=90_000_000))
    assert message_batch(BATCH, other, "")["expires_at"] == "1970-01-02T01:00:00.000Z"


def test_a_page_names_its_ends() -> None:
    """The SDKs go on behind last_id."""
    assert page([], more=False) == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    found = page([{"id": "b"}, {"id": "a"}], more=True)
    assert (found["first_id"], found["last_id"], found["has_more"]) == ("b", "a", True)


@pytest.mark.parametrize(
    ("end", "result"),
    [
        (
            End("a", JobState.SUCCEEDED, '{"id": "m",\n"x": 1}', None, None),
            {"type": "succeeded", "message": {"id": "m", "x": 1}},
        ),
        (
            End("a", JobState.FAILED, None, ErrorInfo(type="http_405", message="no"), "req_1", 405),
            {
                "type": "errored",
                "error": {
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": "no"},
                    "request_id": "req_1",
                },
            },
        ),
        (End("a", JobState.CANCELLED, None, None, None), {"type": "canceled"}),
        (End("a", JobState.EXPIRED, None, None, None), {"type": "expired"}),
    ],
)
def test_a_line_of_results(end: End, result: object) -> None:
    """One line each, whatever line breaks the message has."""
    line = result_line(end)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"custom_id": "a", "result": result}
