"""The page of one job: what was asked and answered, and a retry with an edited request."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest

from nightmill.records.message import Message
from nightmill.safety.visible import visible, visible_json
from nightmill_gateway.console import formats
from nightmill_gateway.console.forms import AFTER_LOGIN, MULTIPART
from nightmill_gateway.console.jobs import blocks
from nightmill_gateway.console.jobs.blocks import answer_of, request_of, turns_of
from nightmill_gateway.console.jobs.handlers import EDIT
from nightmill_gateway.console.jobs.images import LARGEST
from nightmill_gateway.console.jobs.line import line_of
from nightmill_worker.simulator.config import Fault
from tests.gateway.console.browser import browsing, logged_in
from tests.gateway.console.samples import PIXEL, night_job
from tests.rig import Rig, hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.console.browser import Page
    from tests.gateway.door import Door

EVIL = "<img src=x onerror=alert(1)>"
PNG = base64.b64decode(PIXEL)


def page_of(job_id: str) -> str:
    """Return the path of a job's page."""
    return f"/jobs/one?id={quote(job_id, safe='')}"


def image(kind: str, data: str) -> dict[str, Any]:
    """Return a block with an image."""
    source = {"type": "base64", "media_type": kind, "data": data}
    return {"type": "image", "source": source}


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        (image("image/png", PIXEL), True),
        (image("text/html", PIXEL), True),
        (image("image/png", base64.b64encode(b"<svg onload=alert(1)>").decode()), False),
        (image("image/png", '"><script>'), False),
        (image("image/png", base64.b64encode(PNG + bytes(LARGEST)).decode()), False),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, False),
    ],
    ids=["png", "png under another name", "svg as png", "no base64", "too large", "url"],
)
def test_only_raster_images_of_the_request_are_shown(block: dict[str, Any], *, shown: bool) -> None:
    """An SVG may hold a script, and a URL would tell its owner who looks."""
    request = {"messages": [{"role": "user", "content": [block]}]}
    ((turn,), _) = turns_of(request)
    assert (turn.blocks[0].image is not None) is shown
    assert turn.blocks[0].kind == "image"


def test_every_kind_of_block_is_shown_as_text() -> None:
    """Texts, thinking, calls of tools and their results; and what nobody knows yet."""
    content = [
        {"type": "text", "text": "hello"},
        {"type": "thinking", "thinking": "hm"},
        {"type": "tool_use", "name": "look", "input": {"at": 1}},
        {"type": "tool_result", "content": [{"type": "text", "text": "seen"}]},
        {"type": "novel", "x": 1},
        7,
    ]
    kinds = [(block.kind, block.text) for block in answer_of({"content": content}).blocks]
    assert kinds == [
        ("text", "hello"),
        ("thinking", "hm"),
        ("tool use", 'look {"at": 1}'),
        ("tool result, text", "seen"),
        ("novel", '{"type": "novel", "x": 1}'),
        ("unknown", "7"),
    ]
    assert turns_of(request_of(b"[1]")) == ([], 0)


async def test_a_job_is_shown_with_its_request_its_calls_and_its_answer(
    door: Door, rig: Rig
) -> None:
    """Before and after its end, and with nothing of it as markup."""
    await rig.producer.enqueue(hello(EVIL), batch="b", custom_id="a/b c")
    async with logged_in(door) as browser:
        page = await browser.get(page_of("b:a/b c"))
        assert "No call was made yet." in page.text
        assert EVIL not in page.html
        assert EVIL in page.text or "onerror=alert(1)" in page.text
        await rig.work_off()
        page = await browser.get(page_of("b:a/b c"))
        row = await rig.row("b:a/b c")
        assert row.text[:20] in page.text
        assert str(row.attempts[0].request_id) in page.text
        assert "succeeded" in page.text
        assert (await browser.get(page_of("b:no"))).status == 404
    async with logged_in(door, tenant="acme") as browser:
        assert (await browser.get(page_of("b:a/b c"))).status == 404


async def test_a_viewer_sees_the_request_only_when_asked_for(door: Door, rig: Rig) -> None:
    """Prompts may hold what does not belong on a wall of screens."""
    await rig.producer.enqueue(hello("secret prompt"), batch="b", custom_id="1")
    async with logged_in(door, role="viewer") as browser:
        page = await browser.get(page_of("b:1"))
        assert "secret prompt" not in page.html
        assert "secret prompt" in (await browser.get(page_of("b:1") + "&text=shown")).text
        assert "Retry with an edit" not in page.text


async def test_a_failed_job_runs_again_with_an_edited_request(door: Door, rig: Rig) -> None:
    """The error names the field; what is right becomes the next run, once."""
    rig.sim.configure(faults=(Fault(status=400, share=1.0),))
    await rig.producer.enqueue(hello("first"), batch="b", custom_id="1")
    await rig.work_off()
    rig.sim.configure(faults=())
    params = json.loads(bytes((await rig.row("b:1")).params or b""))
    fields = {"id": "b:1", "run": "0"}
    async with logged_in(door) as browser:
        page = page_of("b:1")
        for bad, named in (({**params, "max_tokens": 0}, "max_tokens"), ("{", "JSON")):
            text = bad if isinstance(bad, str) else json.dumps(bad)
            got = await browser.act(page, "/jobs/retry", {**fields, "params": text})
            assert got.status == 400
            assert named in got.text
        edited = msgspec.json.encode({**params, **hello("second")}).decode()
        got = await browser.act(page, "/jobs/retry", {**fields, "params": edited})
        assert got.where == "/jobs/one?id=b%3A1"
        again = await browser.act(page, "/jobs/retry", {**fields, "params": edited})
        assert again.status == 409
        await rig.work_off()
        row = await rig.row("b:1")
        assert (row.run, row.status) == (1, "succeeded")
        assert b"second" in bytes(row.params or b"")
        assert "run 1" in (await browser.get(page)).text
        assert "retry with an edit" in (await browser.get("/audit")).text


async def test_a_long_job_has_a_small_page_all_of_it_as_files_and_can_be_edited(
    door: Door, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotes are five bytes on a page, and a page has 200 kB."""
    request = {**hello('"' * 50_000), "system": "\u6279<" * 60_000}
    await rig.producer.enqueue(request, batch="b", custom_id="1")
    await rig.work_off()
    row = await rig.row("b:1")
    assert row.params is not None
    request = json.loads(bytes(row.params))
    answer = {"type": "message", "role": "assistant", "content": [{"text": "\u6279<" * 2_000_000}]}
    long = Message(json.dumps(answer, ensure_ascii=False).encode())
    await door.services.store.record([msgspec.structs.replace(row, run=1, message=long)])
    async with logged_in(door) as browser:
        read: list[int] = []
        for module, name, work in (
            (formats, "visible", visible),
            (blocks, "visible_json", visible_json),
        ):

            def noted(text: str, work: Callable[[str], str] = work) -> str:
                read.append(len(text))
                return work(text)

            monkeypatch.setattr(module, name, noted)
        page = await browser.get(page_of("b:1"))
        assert 0 < sum(read) < 400_000, "8 MB hold nobody up: characters are read of what is shown"
        assert len(page.html.encode()) < 170_000
        assert "the rest has no room on this page" in page.text
        assert '"></textarea>' in page.html, "the request is pasted"
        links = [html.unescape(each) for each in re.findall('href="(/jobs/json[^"]*)"', page.html)]
        whole = {each: await browser.get(each) for each in links}
        assert [json.loads(each.html) for each in whole.values()] == [request, answer]
        for each in whole.values():
            assert each.headers["content-disposition"].startswith("attachment")
            assert each.headers["x-content-type-options"] == "nosniff"
        edited = whole[links[0]].html
        refused = {"id": "b:1", "run": 1, "params": edited.replace("messages", "none")}
        again = await browser.act(page_of("b:1"), "/jobs/retry", refused)
        assert again.status == 400
        assert "Your edit is too long to stand here, and is not kept" in again.text
        assert 'data-live=""' in again.html, "its own address has no page to look at again"
        assert len(again.html.encode()) < 170_000
        done = await browser.act(page_of("b:1"), "/jobs/retry", {**refused, "params": edited})
        assert done.status == 303
        assert (await browser.get("/jobs/json?id=b:1&of=x")).status == 404
    async with logged_in(door, role="viewer") as viewer:
        path = "/jobs/json?id=b:1&of=request"
        assert (await viewer.get(path)).status == 404, "hidden until it is asked for"
        assert (await viewer.get(f"{path}&text=shown")).status == 200
    async with logged_in(door, tenant="acme") as other:
        assert (await other.get(f"{path}&text=shown")).status == 404


async def test_an_edit_of_4_mb_is_taken_whatever_its_characters(door: Door, rig: Rig) -> None:
    """A Chinese character is nine bytes in a form of the usual type, and a line end six."""
    await rig.producer.enqueue(hello("x"), batch="b", custom_id="1")
    await rig.work_off()
    short = json.dumps({**hello("@"), "max_tokens": 5}, ensure_ascii=False)
    most = EDIT - len(short.encode()) + 1
    async with logged_in(door) as browser:

        async def sent(text: str) -> Page:
            fields = {"id": "b:1", "run": 0, "params": text}
            return await browser.act(page_of("b:1"), "/jobs/retry", fields)

        over = await sent(short.replace("@", "x" * (most + 1)))
        assert over.status == 400
        assert "given 4,000,001 bytes; allowed: 4,000,000; use nightmill retry --set" in over.text
        assert "is not kept" in over.text
        beyond = await sent("\n" * (AFTER_LOGIN[MULTIPART] + 1))
        assert beyond.status == 413
        assert "What the form had is not kept." in beyond.text
        whole = short.replace("@", "\u6f22" * (most // 6)).replace(" ", "\r\n" * (most // 20))
        assert EDIT * 0.8 < len(whole.replace("\r\n", "\n").encode()) <= EDIT
        assert len(quote(whole)) > EDIT * 2
        done = await sent(whole)
        assert done.status == 303, done.text


async def test_an_edit_keeps_what_the_page_shows_as_text(door: Door, rig: Rig) -> None:
    """A control character became an escape that JSON does not have."""
    text = "del \x7f next line \x85 turned \u202e joined \u200d"
    await rig.producer.enqueue(hello(text), batch="b", custom_id="1")
    await rig.work_off()
    async with logged_in(door) as browser:
        page = (await browser.get(page_of("b:1"))).html
        edited = html.unescape(page.partition("<textarea")[2].partition("</textarea")[0])
        sent = json.loads(edited.partition(">")[2])
        assert sent["messages"][0]["content"] == text


async def test_an_image_of_the_request_is_an_answer_of_its_own(door: Door, rig: Rig) -> None:
    """Sealed, of the type of its content, for who sees the job only, and only when asked for."""
    large = PNG + bytes(300_000)
    blocks = [image("image/png", PIXEL), image("image/gif", base64.b64encode(large).decode())]
    request = {"messages": [{"role": "user", "content": blocks}], "max_tokens": 5}
    await rig.producer.enqueue(request, batch="acme/b", custom_id="1")
    path = "/jobs/image?id=acme%2Fb%3A1&n="
    async with logged_in(door) as browser:
        page = await browser.get(page_of("acme/b:1"))
        assert page.html.count("<img") == 2
        assert len(page.html) < 100_000
        async with browser.session.get(f"{door.url}{path}2") as got:
            assert await got.read() == large
            assert got.content_type == "image/png"
            assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
            assert got.headers["x-content-type-options"] == "nosniff"
            assert got.headers["cache-control"] == "no-store"
        for wrong in ("0", "3", "-1", "x", ""):
            assert (await browser.get(path + wrong)).status == 404
    async with logged_in(door, role="viewer", tenant="acme") as browser:
        assert (await browser.get(f"{path}1")).status == 404
        async with browser.session.get(f"{door.url}{path}1&text=shown") as got:
            assert await got.read() == PNG
    async with logged_in(door, tenant="other") as browser:
        assert (await browser.get(f"{path}1&text=shown")).status == 404
    async with browsing(door.url) as browser:
        assert (await browser.get(f"{path}1")).where.startswith("/login")


async def test_the_page_of_a_job_with_every_kind_of_text_is_small(door: Door) -> None:
    """200 kB, whatever the request and the answer hold."""
    for said in ("x" * 40_000, "<&>" * 10_000, "漢\u202e\x01" * 10_000):
        await door.services.store.record([night_job(1, said=said)])
        async with logged_in(door) as browser:
            page = await browser.get(page_of("night:line-1"))
        assert len(page.html.encode()) < 170_000, "and 30 kB of style and script"


def test_the_time_line_names_every_call_and_wait() -> None:
    """Queued, each call with its outcome, the waits, stored; a job that waits has no end."""
    row = night_job(1)
    line = line_of(row.attempts, row.enqueued_at, row.finished_at)
    words = line.partition("<desc>")[2].partition("</desc>")[0]
    assert words == (
        "queued 9.0s; snoozed: call 1, 400 ms, HTTP 429, rate_limit_error; waiting: 8.6s; "
        "retrying: call 2, 11s, HTTP 529, overloaded_error; waiting: 4.0s; "
        "succeeded: call 3, 14s, HTTP 200; storing: 200 ms; stored"
    )
    waits = line_of(row.attempts[:1], row.enqueued_at, None)
    assert "stored" not in waits
    assert "waiting: 8.0s" in waits
    assert "no call" in line_of((), row.enqueued_at, None)
