"""The page of one batch: its failures, its results, what they took."""

from __future__ import annotations

import html
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
import pytest

from nightmill.export.lines import to_line
from nightmill.records.message import Message
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from tests.gateway.console.browser import logged_in, risks
from tests.gateway.console.test_listing import HOSTILE, make
from tests.producer.store.samples import FAILED, numbered

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from tests.gateway.console.browser import Page
    from tests.gateway.door import Door

PAGE = "/batches/one?name=night"


def answered(seq: int, text: str, **fields: Any) -> Result:  # noqa: ANN401 - any field
    """Return a result of batch `night` with an answer, which ended at second `seq`."""
    body = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}]}
    fields = {"finished_at": seq * 1000, "call_ms": 1500, **fields}
    return numbered(seq, message=Message(msgspec.json.encode(body)), **fields)


def failed(seq: int, message: str, kind: str = "invalid_request_error") -> Result:
    """Return a result of batch `night` that failed."""
    name = f"line-{seq}"
    error = ErrorInfo(type=kind, message=message, fix="give at least 1")
    return msgspec.structs.replace(
        FAILED,
        job_id=f"night:{name}",
        custom_id=name,
        seq=seq,
        error=error,
        finished_at=seq * 1000,
    )


def ids(page: Page) -> list[str]:
    """Return the ids of the results that a page shows."""
    part = page.html.partition('id="results"')[2]
    return re.findall(r"/jobs/one\?id=night%3A([^\"]+)\"", part)


async def test_the_page_of_a_batch(door: Door) -> None:
    """What ran, what failed and how to fix it, on one page."""
    await make(door, "night", total=5, succeeded=2, failed=3, limits='{"weight":7}')
    await door.services.store.record(
        [
            answered(1, "the first answer"),
            answered(2, "the second answer"),
            failed(3, "max_tokens: 0 of 12"),
            failed(4, "max_tokens: 0 of 13"),
            failed(5, "full", "overloaded_error"),
        ]
    )
    async with logged_in(door) as browser:
        page = await browser.get(PAGE)
    assert page.status == 200
    for part in ("2 succeeded, 3 failed", "weight 7", "the second answer", "give at least 1"):
        assert part in page.text, part
    assert re.search(r"2 invalid_request_error max_tokens: 0 of 1\d", page.text), "one group"
    assert "nightmill retry night --error overloaded_error" in page.text
    assert "night:line-5" in page.text, "an example"
    assert ids(page) == ["line-5", "line-4", "line-3", "line-2", "line-1"], "the newest first"
    assert page.html.count('class="chart"') == 4
    assert "Of the 5 results" in page.text


async def test_search_by_id_and_by_text(door: Door) -> None:
    """One of ten million answers is found by what is known of it."""
    await make(door, "night", total=700, succeeded=700)
    rows = [answered(n, "plain") for n in range(1, 701)]
    rows[6] = answered(7, 'a "quoted" über-needle 漢')
    rows[699] = failed(700, "needle in an error")
    await door.services.store.record(rows)
    async with logged_in(door) as browser:
        page = await browser.get(f"{PAGE}&id=line-69")
        assert ids(page) == ["line-69", *(f"line-69{n}" for n in range(10))]
        page = await browser.get(f"{PAGE}&text=needle")
        assert ids(page) == ["line-700", "line-7"]
        assert "Looked through 700 of 700 results" in page.text
        for text in ("%22quoted%22", "%C3%BCber", "%E6%BC%A2"):
            assert ids(await browser.get(f"{PAGE}&text={text}")) == ["line-7"], text
        for text in ("%25", "_lain", "line-7"):
            assert ids(await browser.get(f"{PAGE}&text={text}")) == [], "no wildcard, no request"
        assert ids(await browser.get(f"{PAGE}&id=%25")) == []
        first = await browser.get(f"{PAGE}&text=plain")
        assert len(ids(first)) == 25
        link = re.search(r'rel="next" href="([^"]+)"', first.html)
        assert link
        further = await browser.get(link[1].replace("&amp;", "&").partition("#")[0])
        assert ids(further)[0] == "line-674"
        older = re.search(r'rel="next" href="([^"]+)"', (await browser.get(PAGE)).html)
        assert older
        page = await browser.get(older[1].replace("&amp;", "&").partition("#")[0])
        assert ids(page)[0] == "line-675"
        assert (await browser.get(f"{PAGE}&before=x")).status == 200


async def test_a_search_for_text_ends_soon(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds nothing must not read a large batch to its end."""
    monkeypatch.setattr("nightmill_gateway.console.batches.results.LOOK_S", 0.0)
    await make(door, "night", total=1200, succeeded=1200)
    await door.services.store.record([answered(n, "plain") for n in range(1, 1201)])
    async with logged_in(door) as browser:
        page = await browser.get(f"{PAGE}&text=nowhere")
        assert "Looked through 500 of 1,200 results" in page.text
        assert "Look further" in page.text


async def test_the_download_has_every_result(door: Door) -> None:
    """It is what `nightmill results` writes, in the order of the source."""
    await make(door, "t/a b", total=450, succeeded=450)
    rows = [answered(n, f"text {n}", batch="t/a b", job_id=f"t/a b:{n}") for n in range(450, 0, -1)]
    await door.services.store.record(rows)
    async with logged_in(door) as browser:
        page = await browser.get("/batches/one/results.jsonl?name=t/a%20b")
    assert page.headers["content-type"] == "application/x-ndjson"
    assert page.headers["content-disposition"] == 'attachment; filename="t-a-b.jsonl"'
    lines = page.html.splitlines()
    assert len(lines) == 450
    stored = await door.services.store.get("t/a b:1")
    assert stored is not None
    assert lines[0] == to_line(stored).decode().rstrip("\n")


@pytest.mark.parametrize("path", ["/batches/one", "/batches/one/results.jsonl"])
async def test_a_tenant_sees_only_its_batch(door: Door, path: str) -> None:
    """The results of another tenant are as if they did not exist."""
    await make(door, "t/one", total=1)
    await door.services.store.record([answered(1, "secret", batch="t/one", job_id="t/one:1")])
    async with logged_in(door, tenant="u") as browser:
        for name in ("t/one", "nowhere", "", "u/none"):
            page = await browser.get(f"{path}?name={name}")
            assert page.status == 404
            assert "secret" not in page.html
    async with logged_in(door, tenant="t") as browser:
        assert "secret" in (await browser.get(f"{path}?name=t/one")).html


async def test_hostile_answers_are_text(door: Door) -> None:
    """What a model writes must not run in the browser of who reads it."""
    await make(door, "night", total=2, failed=1, stop_oops=1, reason=HOSTILE, flag="paused")
    await door.services.store.record(
        [
            answered(1, HOSTILE + "\u202e", stop_reason=HOSTILE, custom_id=HOSTILE),
            failed(2, HOSTILE, HOSTILE),
        ]
    )
    async with logged_in(door) as browser:
        for query in ("", urlencode({"text": HOSTILE}), urlencode({"id": HOSTILE})):
            page = await browser.get(f"{PAGE}&{query}")
            assert page.status == 200
            assert "<script>alert" not in page.html
            assert "<img" not in page.html
            assert "\u202e" not in page.html
            assert risks(page.html) == []
        assert "<script>alert(1)</script>" in (await browser.get(PAGE)).text.replace("  ", " ")


async def test_single_jobs_have_a_page(door: Door) -> None:
    """Jobs without a batch are looked at, too; those of all tenants are together."""
    await door.services.store.record([answered(1, "alone", batch="", job_id="0199-single")])
    async with logged_in(door) as browser:
        page = await browser.get("/batches/one?name=")
        assert "Single jobs" in page.text
        assert "alone" in page.text
        assert "alone" in (await browser.get("/batches/one?name=&id=0199")).text
        assert "Cancel" not in page.text


async def test_retry_of_a_group(door: Door) -> None:
    """A group of failures is one click and one confirmation away from its next run."""
    await make(door, "night", total=1, failed=1)
    await door.services.store.record([failed(1, "full", "overloaded_error")])
    async with logged_in(door) as browser:
        fields = {"action": "retry", "batch": "night", "error": "overloaded_error"}
        page = await browser.act(PAGE, "/batches/confirm", fields)
        assert "Only jobs that failed with overloaded_error" in page.text
    assert (await door.services.store.counts("night"))[JobState.FAILED] == 1


async def test_a_large_batch_opens_fast(door: Door) -> None:
    """No query of the page reads all rows."""
    await make(door, "night", total=20_000, succeeded=20_000)
    for start in range(0, 20_000, 2_000):
        rows = [answered(n, "plain") for n in range(start, start + 2_000)]
        await door.services.store.record(rows)
    async with logged_in(door) as browser:
        await browser.get(PAGE)
        began = time.monotonic()
        page = await browser.get(PAGE)
        assert time.monotonic() - began < 3  # of a busy machine; 0.1 s on an idle one
        assert len(page.html.encode()) < 200_000
        assert "newest 2,000 results" in page.text


async def test_a_page_has_fewer_results_when_their_ids_are_long(door: Door) -> None:
    """A name has 512 bytes, and a page 200 kB; no result is left out."""
    batch = "漢" * 170
    await make(door, batch, total=80, succeeded=40, failed=40)

    def named(n: int) -> dict[str, Any]:
        own = f"字{n:02}" + "字" * 140
        return {"job_id": f"{batch}:{own}", "custom_id": own, "batch": batch}

    rows = [answered(n, "漢" * 600, **named(n)) for n in range(40)]
    rows += [
        msgspec.structs.replace(failed(n, "漢" * 600, f"kind{n}_{'漢' * 10}"), **named(n))
        for n in range(40, 80)
    ]
    await door.services.store.record(rows)
    path, found = f"/batches/one?{urlencode({'name': batch})}", set[str]()
    async with logged_in(door) as browser:
        while path:
            page = await browser.get(path)
            assert len(page.html.encode()) < 170_000
            found.update(re.findall("字[0-9][0-9]", page.html.partition('id="results"')[2]))
            older = re.search(r'rel="next" href="([^"#]*)', page.html)
            path = html.unescape(older[1]) if older else ""
        some = await browser.get(f"/batches/one?{urlencode({'name': batch, 'id': '字'})}")
        assert len(some.html.encode()) < 170_000
        assert "More ids begin so: give more of the id." in some.text
        one = await browser.get(f"/batches/one?{urlencode({'name': batch, 'id': '字07'})}")
        assert "字07" in one.text
        assert "give more of the id" not in one.text
    assert len(found) == 80


async def test_a_place_that_no_page_has_given_is_none(door: Door) -> None:
    """A number that the store cannot hold was a defect of the gateway."""
    await make(door, "b")
    async with logged_in(door) as browser:
        assert (await browser.get(f"/batches/one?name=b&before={'9' * 30}:b:1")).status == 200
