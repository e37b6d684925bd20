"""kill -9 of each process in the middle of a create: nothing accepted is lost, or half there."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.gateway.batches.made import JSON, PATH, body, request
from tests.gateway.killable import PARTS, Answer, Killable, answer_of, killable
from tests.integration.shell import until

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 50
LONG = "x" * 110_000
"""The requests of a create need two parts: one of 4 MB is stored before the body has ended."""
EARLY = 60


def create_of(name: str) -> bytes:
    """Return the body of a create, with requests that no other has."""
    requests = [
        {**request(number, system=f"{name} {LONG}"), "custom_id": f"{name}-{number}"}
        for number in range(COUNT)
    ]
    return json.dumps({"requests": requests}).encode()


def cut(fleet: Killable, sent: bytes, victim: tuple[str, ...], *, in_upload: bool) -> Answer:
    """Send a create, kill `victim` in the middle of its upload or of its commit; return the answer.

    The status is 0 when there is none.
    """
    connection = http.client.HTTPConnection(urlsplit(fleet.url).netloc, timeout=30)
    with closing(connection):
        connection.putrequest("POST", PATH)
        for name, value in {**JSON, "content-length": str(len(sent))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        place = len(sent) * 9 // 10
        connection.send(sent[:place])
        until(fleet.half_accepted)
        try:
            if not in_upload:
                connection.send(sent[place:])
            for part in victim:
                fleet.kill(part)
            if in_upload:
                connection.send(sent[place:])
            return answer_of(connection)
        except (OSError, http.client.HTTPException):
            return 0, None


@pytest.mark.parametrize(
    ("victim", "fsync"),
    [
        (("gateway",), "everysec"),
        (("worker",), "everysec"),
        (("redis",), "everysec"),
        (("redis",), "always"),
        (("postgresql",), "everysec"),
        (tuple(reversed(PARTS)), "everysec"),
    ],
    ids=["gateway", "worker", "redis everysec", "redis always", "postgresql", "all of them"],
)
def test_a_create_is_whole_or_not_there(
    tmp_path: Path, victim: tuple[str, ...], fsync: str
) -> None:
    """What was accepted has each result once; a create that is sent again makes one batch."""
    expected = {}
    with killable(tmp_path, fsync) as fleet:
        _, early = fleet.ask("POST", PATH, json.dumps(body(EARLY)).encode())
        expected[early["id"]] = EARLY
        until(fleet.endpoint.answered)
        for name in ("upload", "commit"):
            sent = create_of(name)
            status, made = cut(fleet, sent, victim, in_upload=name == "upload")
            assert status in {0, 200, 529}, made
            for part in PARTS:
                if part in victim:
                    fleet.start(part)
            there = {batch["id"] for batch in fleet.asked(PATH)["data"]}
            assert there >= expected.keys()
            again = made["id"] if status == 200 else fleet.send_again(sent)
            assert there - expected.keys() <= {again}
            expected[again] = COUNT
        until(lambda: all(each["ended_at"] for each in fleet.asked(PATH)["data"]))
        found = {each["id"]: each["request_counts"] for each in fleet.asked(PATH)["data"]}
        assert {name: counts["succeeded"] for name, counts in found.items()} == expected
        for name, count in expected.items():
            lines = fleet.asked(f"{PATH}/{name}/results")
            assert len({line["custom_id"] for line in lines}) == len(lines) == count
        calls = fleet.endpoint.answered()
        assert len(calls) == sum(expected.values())
        if victim == ("gateway",):  # nothing that calls or remembers was killed
            assert set(calls) == {1}
