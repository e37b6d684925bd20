"""Programs of one's own hear of events, and cannot harm a job."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill import events as public
from nightmill_worker import events, subscribers
from nightmill_worker.events import Events, SubscriberFailed
from nightmill_worker.subscribers import published, subscribed
from tests.integration.shell import Shell, simulated
from tests.plugs.installed import install
from tests.rig import until

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import json, pathlib, threading, time

def note(event):
    fields = {key: getattr(event, key) for key in event.__struct_fields__}
    with open(pathlib.Path(__file__).with_name("heard"), "a") as file:
        file.write(json.dumps([type(event).__name__, fields]) + "\\n")

def fail(event):
    raise SystemExit("bad subscriber")

def hang(event):
    threading.Event().wait()
"""
FROZEN = {
    "WorkerStarted": {"at", "worker"},
    "WorkerStopped": {"at", "worker", "given_back"},
    "JobsEnded": {"at", "jobs"},
    "CallRefused": {"at", "job_id", "message", "wait_ms"},
    "CallFailed": {"at", "job_id", "error_type", "message", "wait_ms"},
    "JobQuarantined": {"at", "job_id", "reason"},
    "AccountStopped": {"at", "reason"},
    "LaneStopped": {"at", "model", "reason"},
    "ServiceAway": {"at", "service", "problem"},
    "ServiceBack": {"at", "service", "after_s"},
}
"""Version 1: what is here never changes. What is added belongs here, too."""


def test_the_set_is_frozen() -> None:
    """A subscriber that was written for this version goes on working."""
    assert public.VERSION == 1
    found = {each.__name__: set(each.__struct_fields__) for each in public.EVENTS}
    assert found == FROZEN
    event = public.WorkerStarted(at=1, worker="w")
    with pytest.raises(AttributeError):
        event.worker = "other"  # type: ignore[misc]


def test_every_public_event_is_published() -> None:
    """With the fields of the worker's own event."""
    event = published(events.JobsFinished(jobs={"a": "succeeded"}))
    assert isinstance(event, public.JobsEnded)
    assert event.jobs == {"a": "succeeded"}
    away = published(events.StoreAway(problem="p"))
    assert isinstance(away, public.ServiceAway)
    assert (away.service, away.problem) == ("store", "p")
    assert published(events.LeaseLost(job_id="a")) is None
    names = {"worker": "w", "given_back": 0, "problem": "p", "after_s": 1.0, "jobs": {}}
    names |= {"job_id": "j", "message": "m", "wait_ms": 1, "error_type": "t", "reason": "r"}
    names |= {"model": "m", "account": "a", "lane": "m", "batch": "b", "attempt": 1}
    names |= {"request_id": "r"}
    kinds = set()
    for kind in subscribers._PUBLIC:
        given: dict[str, Any] = {name: names[name] for name in kind.__struct_fields__}
        kinds.add(type(published(kind(**given))))
    assert kinds == set(public.EVENTS)


def test_a_worker_tells_what_is_installed(tmp_path: Path) -> None:
    """One raises and one hangs: every job succeeds, and the third one hears of all."""
    plug = install(
        tmp_path / "plug",
        "loud",
        MODULE,
        events={"note": "note", "fail": "fail", "hang": "hang", "gone": "no_such_name"},
    )
    with simulated(tmp_path) as endpoint:
        shell = Shell(tmp_path, base_url=endpoint.url, api_key="k")
        shell.env["PYTHONPATH"] = f"{plug}:{shell.env.get('PYTHONPATH', '')}"
        done = shell("run", shell.write(20, "night.jsonl"))
        assert done.code == 0, done
        assert sorted(endpoint.answered()) == [1] * 20
        heard = [json.loads(line) for line in (plug / "heard").read_text().splitlines()]
    names = [name for name, _ in heard]
    assert (names[0], names[-1]) == ("WorkerStarted", "WorkerStopped")
    ended: dict[str, str] = {}
    for name, fields in heard:
        assert fields["at"] > 0
        if name == "JobsEnded":
            ended |= fields["jobs"]
    assert len(ended) == 20
    assert set(ended.values()) == {"succeeded"}
    shell.assert_nothing_runs()


async def test_one_that_fails_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emitting loop never waits: what is too much for one is left out, and counted."""
    go_on = threading.Event()
    got: list[public.Event] = []

    def slow(event: public.Event) -> None:
        go_on.wait()
        got.append(event)

    class Entry:
        name = "slow"

        def load(self) -> object:
            return slow

    monkeypatch.setattr(subscribers, "entry_points", lambda group: [Entry()])  # noqa: ARG005
    monkeypatch.setattr(subscribers, "HELD", 3)
    source, seen = Events(), list[events.Event]()
    source.subscribe(seen.append)
    with subscribed(source):
        for number in range(10):
            source.emit(events.WorkerStarted(worker=str(number)))
        await until(lambda: any(isinstance(each, SubscriberFailed) for each in seen))
        go_on.set()
        await until(lambda: len(got) >= 3)
    (failed,) = [each for each in seen if isinstance(each, SubscriberFailed)]
    assert failed.subscriber == "slow"
    assert failed.lost >= 1
    assert [each.worker for each in got if isinstance(each, public.WorkerStarted)][:3] == list(
        "012"
    )
    assert msgspec.structs.asdict(failed)["problem"].startswith("it is slow")
