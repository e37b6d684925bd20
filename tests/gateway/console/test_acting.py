"""Actions on batches: confirmed, done, in the audit log; and refused to who may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.queue import keys
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from nightmill.store.audit import AuditLog
from nightmill_gateway.console.batches.acting import MOST
from tests.gateway.console.browser import Browser, logged_in, risks
from tests.gateway.console.test_listing import HOSTILE, make
from tests.rig import hello, until

if TYPE_CHECKING:
    from nightmill.records.counts import Counts
    from nightmill.store.audit import AuditLine
    from tests.gateway.console.browser import Page
    from tests.gateway.door import Door
    from tests.rig import Rig


async def confirm(browser: Browser, action: str, **fields: object) -> Page:
    """Ask for an action, as the list does."""
    return await browser.act("/batches", "/batches/confirm", {"action": action, **fields})


async def act(browser: Browser, action: str, *batches: str, **fields: object) -> Page:
    """Do an action that was confirmed; return the page after it."""
    sent = {"action": action, "batch": [*batches], "back": "/batches", **fields}
    done = await browser.act("/batches", "/batches/act", sent)
    return await browser.get(done.where) if done.status == 303 else done


async def counts(door: Door, batch: str) -> Counts:
    """Return the counts of a batch."""
    return await door.services.batches.counts(batch)


async def lines(door: Door) -> list[AuditLine]:
    """Return the audit log, the newest first."""
    return await AuditLog(door.services.store).page(999, tenant=None, target=None, before=None)


async def test_each_action_is_confirmed_first(door: Door) -> None:
    """A click beside the button that was meant must not cancel a night's work."""
    await make(door, "a")
    await make(door, "b")
    async with logged_in(door) as browser:
        for action in ("pause", "resume", "retry", "adjust", "cancel"):
            page = await confirm(browser, action, batch=["a", "b"])
            assert page.status == 200
            assert "2 batches?" in page.text
            assert re.findall(r'name="batch" value="(.*?)"', page.html) == ["a", "b"]
        assert (await confirm(browser, "oops", batch="a")).status == 400
        nothing = await confirm(browser, "pause")
        assert "No batch is selected" in (await browser.get(nothing.where)).text
    assert (await counts(door, "a")).flag == ""
    assert await lines(door) == []


async def test_all_that_match(door: Door) -> None:
    """A person pauses what a search has found, also on other pages of the list."""
    for number in range(60):
        await make(door, f"x-{number}")
    await make(door, "y")
    async with logged_in(door) as browser:
        page = await confirm(browser, "pause", which="matching", filter="search=x-")
        assert "60 batches?" in page.text
        assert "and 40 more" in page.text
        names = re.findall(r'name="batch" value="(.*?)"', page.html)
        after = await act(browser, "pause", *names)
        assert "60 of 60 batches paused" in after.text
    assert (await counts(door, "x-59")).flag == "paused"
    assert (await counts(door, "y")).flag == ""
    assert len(await lines(door)) == 60


async def test_pause_resume_and_the_log(door: Door) -> None:
    """The log says who paused a batch, and when."""
    await make(door, "a")
    async with logged_in(door) as browser:
        after = await act(browser, "pause", "a")
        assert '"a" is paused' in after.text
        assert '"a" is paused:' not in after.text, "nothing is said twice"
        assert (await counts(door, "a")).reason == "by test in the console"
        assert '"a" is paused' not in (await browser.get("/batches")).text, "it is told once"
        await act(browser, "resume", "a")
        assert (await counts(door, "a")).flag == ""
        page = await browser.get("/audit")
    newest, oldest = await lines(door)
    assert (newest.action, oldest.action) == ("resume", "pause")
    assert (oldest.target, oldest.who, oldest.tenant) == ("a", "test", "default")
    assert oldest.outcome == "paused"
    assert oldest.key_id in page.text
    assert page.text.index("resume") < page.text.index("pause")


async def test_adjust(door: Door) -> None:
    """The fields are those of the command, and so are its errors."""
    await make(door, "a")
    await make(door, "b")
    async with logged_in(door) as browser:
        given = {"weight": "7", "concurrency": "1,000", "expires": "2h", "budget_usd": "$50"}
        after = await act(browser, "adjust", "a", "b", **given)
        assert "2 of 2 batches adjusted" in after.text
        limits = (await counts(door, "b")).limits
        assert (limits.weight, limits.concurrency, limits.budget_usd) == (7, 1000, 50.0)
        assert limits.expires_at is not None
        assert (await lines(door))[0].detail == (
            "weight 7, concurrency 1,000, expires 2h, budget_usd $50"
        )
        bad = {
            "weight": ["0", "-1", "x", "1.5", "9" * 30],
            "budget_usd": ["0", "nan", "x"],
            "expires": ["soon", "0s"],
            "": [""],
        }
        for name, values in bad.items():
            for value in values:
                page = await act(browser, "adjust", "a", **{name: value})
                refused = page.status == 400 or "Not done" in page.text
                assert refused, (name, value)
        assert (await counts(door, "a")).limits.weight == 7


async def test_cancel_writes_rows(rig: Rig, door: Door) -> None:
    """Jobs of a cancelled batch end without a call, also while no worker runs."""
    for number in range(3):
        await rig.producer.enqueue(hello(), batch="night", custom_id=f"{number}")
    async with logged_in(door) as browser:
        after = await act(browser, "cancel", "night")
        assert "cancelled: 3 jobs not called" in after.text

        async def stored() -> bool:
            return len(await rig.store.lookup([f"night:{n}" for n in range(3)])) == 3

        await until(stored)
        page = await act(browser, "pause", "night")
        assert "Not done" in page.text
    newest = (await lines(door))[0]
    assert newest.outcome is not None
    assert newest.outcome.startswith("not done: ")
    assert rig.calls() == 0


async def test_retry(rig: Rig, door: Door) -> None:
    """What failed is called again with its stored request."""
    await rig.producer.enqueue(hello(), batch="n", custom_id="bad")
    await rig.work_off()
    succeeded = await rig.row("n:bad")
    error = ErrorInfo(type="overloaded_error", message="full")
    failed = msgspec.structs.replace(
        succeeded, status=JobState.FAILED, run=1, message=None, error=error
    )
    await rig.store.record([failed])
    async with logged_in(door) as browser:
        after = await act(browser, "retry", "n", jobs="cancelled")
        assert "0 jobs queued again" in after.text
        after = await act(browser, "retry", "n", error="another_error")
        assert "0 jobs queued again" in after.text
        after = await act(browser, "retry", "n", jobs="failed")
        assert "1 job queued again" in after.text
    assert (await counts(door, "n")).queued == 1


@pytest.mark.parametrize("role", ["viewer", "service"])
async def test_only_operators_act(door: Door, role: str) -> None:
    """A dashboard's key, or a program's, must not stop the work of others."""
    await make(door, "a")
    async with logged_in(door, role=role) as browser:  # type: ignore[arg-type]
        for path in ("/batches/confirm", "/batches/act"):
            sent = {"action": "cancel", "batch": "a"}
            assert (await browser.act("/batches", path, sent)).status == 403
    assert (await counts(door, "a")).flag == ""
    assert await lines(door) == []


async def test_a_tenant_acts_on_its_batches_only(door: Door) -> None:
    """Another tenant's batch is as if it did not exist, and so is its line in the log."""
    await make(door, "t/mine")
    await make(door, "u/other")
    async with logged_in(door, tenant="u") as browser:
        assert "paused" in (await act(browser, "pause", "u/other")).text
    async with logged_in(door, tenant="t") as browser:
        for batch in ("u/other", "nowhere", ""):
            for path in ("/batches/confirm", "/batches/act"):
                sent = {"action": "cancel", "batch": ["t/mine", batch]}
                assert (await browser.act("/batches", path, sent)).status == 404
        assert (await counts(door, "t/mine")).flag == ""
        matching = await confirm(browser, "cancel", which="matching", filter="")
        assert re.findall(r'name="batch" value="(.*?)"', matching.html) == ["t/mine"]
        for path in ("/audit", "/audit?about=u/other"):
            assert "Nothing was done yet" in (await browser.get(path)).text


async def test_a_form_without_its_token_does_nothing(door: Door) -> None:
    """A page of another site that guesses the fields still lacks the token."""
    await make(door, "a")
    async with logged_in(door) as browser:
        page = await browser.post("/batches/act", {"action": "cancel", "batch": "a"})
        assert page.status == 403
        assert (await browser.get("/batches/act")).status in (404, 405)
    assert (await counts(door, "a")).flag == ""


async def test_hostile_names_stay_text_on_their_way(door: Door) -> None:
    """The confirmation, the note after it and the log show the name of the batch."""
    await make(door, HOSTILE)
    async with logged_in(door) as browser:
        pages = [
            await confirm(browser, "pause", batch=HOSTILE, back='/batches?x="><script>'),
            await act(browser, "pause", HOSTILE),
            await browser.get("/audit"),
            await act(browser, "adjust", HOSTILE, weight="<script>alert(1)"),
        ]
        for page in pages:
            assert "<script>alert" not in page.html
            assert "<img" not in page.html
            assert risks(page.html) == []
    assert (await counts(door, HOSTILE)).flag == "paused"


async def test_no_action_without_its_line(door: Door) -> None:
    """When the log cannot be written, nothing is done."""
    await make(door, "a")
    async with logged_in(door) as browser:
        await door.services.store.database.run(
            lambda connection: connection.change("ALTER TABLE audit RENAME TO gone"), write=True
        )
        page = await browser.act("/batches", "/batches/act", {"action": "pause", "batch": "a"})
        assert page.status >= 500
    assert (await counts(door, "a")).flag == ""
    assert await door.services.redis.exists(keys.BATCH + "a")


async def test_an_action_on_too_many_batches_says_so(door: Door) -> None:
    """The form of 2,001 batches was refused as one that cannot be read."""
    for n in range(MOST + 1):
        await make(door, f"b{n}")
    async with logged_in(door) as browser:
        page = await confirm(browser, "pause", which="matching", filter="")
        text = (await browser.get(page.where)).text
        assert "1,001 batches match, and an action takes 1,000 at most: narrow the search." in text
        await confirm(browser, "pause", which="matching", filter="search=b10")


async def test_a_note_about_a_long_name_arrives(door: Door) -> None:
    """Browsers drop a cookie of more than 4,096 bytes without a word."""
    name = "\U0001f600" * 120 + "\u6279" * 300
    await make(door, name)
    async with logged_in(door) as browser:
        sent = {"action": "pause", "batch": name, "back": "/batches"}
        done = await browser.act("/batches", "/batches/act", sent)
        assert len(done.headers["set-cookie"]) < 4_096
        assert "\U0001f600" * 100 in (await browser.get(done.where)).text
