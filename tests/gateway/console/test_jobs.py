"""The page of one job: what was asked and answered, and a retry with an edited request."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest

from nightmill_gateway.console.jobs.blocks import IMAGE, answer_of, request_of, turns_of
from nightmill_worker.simulator.config import Fault
from tests.gateway.console.browser import logged_in
from tests.rig import Rig, hello

if TYPE_CHECKING:
    from tests.gateway.door import Door

EVIL = "<img src=x onerror=alert(1)>"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


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
        (image("image/svg+xml", PIXEL), False),
        (image("image/png", '"><script>'), False),
        (image("image/png", "A" * (IMAGE + 1)), False),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, False),
    ],
    ids=["png", "svg", "no base64", "too large", "url"],
)
def test_only_small_raster_images_of_the_request_are_shown(
    block: dict[str, Any], *, shown: bool
) -> None:
    """An SVG may hold a script, and a URL would tell its owner who looks."""
    request = {"messages": [{"role": "user", "content": [block]}]}
    ((turn,), _) = turns_of(request)
    assert bool(turn.blocks[0].image) is shown
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


async def test_a_long_request_has_a_small_page_and_can_be_edited(door: Door, rig: Rig) -> None:
    """Quotes are five bytes on a page, and a page has 200 kB."""
    request = {**hello('"' * 50_000), "system": "\u6279<" * 60_000}
    await rig.producer.enqueue(request, batch="b", custom_id="1")
    await rig.work_off()
    async with logged_in(door) as browser:
        page = await browser.get(page_of("b:1"))
        assert len(page.html.encode()) < 170_000
        assert "the rest has no room on this page" in page.text
        assert "<textarea" not in page.html
        form = await browser.get(page_of("b:1") + "&edit=1")
        edited = html.unescape(form.html.partition("<textarea")[2].partition("</textarea")[0])
        sent = json.loads(edited.partition(">")[2])
        assert sent["system"] == request["system"]
        assert sent["messages"] == request["messages"]
        fields = {"id": "b:1", "run": 0, "params": edited.partition(">")[2]}
        done = await browser.act(page_of("b:1") + "&edit=1", "/jobs/retry", fields)
        assert done.status == 303, "the form that was offered is not too long to be sent"


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
