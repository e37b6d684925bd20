"""Who gets into the console, for how long, and what a page of another site can do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest

from nightmill.queue import keys
from nightmill.store import ResultStore
from nightmill.store.access_keys import AccessKeys
from nightmill_gateway.access.caller import OnThisMachine
from nightmill_gateway.access.key import id_of
from nightmill_gateway.console import page_limit
from nightmill_gateway.console.jobs import handlers
from nightmill_gateway.console.sessions import MAX_FAILURES, Sessions
from tests.gateway.console.browser import Browser, browsing, logged_in
from tests.gateway.console.test_listing import make
from tests.gateway.door import opened
from tests.producer.store.samples import numbered

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from tests.gateway.door import Door
    from tests.rig import Rig

COOKIE = "nightmill_session"


@pytest.fixture
async def browser(door: Door) -> AsyncIterator[Browser]:
    """Return a browser without a session."""
    async with browsing(door.url) as made:
        yield made


async def test_without_a_session_every_page_leads_to_the_login(browser: Browser) -> None:
    """A page shows what batches hold, so nobody sees one without a key."""
    page = await browser.get("/batches?state=running")
    assert page.where == "/login?next=/batches%3Fstate%3Drunning"
    assert (await browser.post("/logout")).status == 401


async def test_a_key_opens_a_session_and_is_not_kept(door: Door, browser: Browser) -> None:
    """A cookie that a thief reads must not be the key, nor lead to it."""
    page = await browser.post("/login", {"key": f" {door.key} ", "next": "/batches"})
    assert page.where == "/batches"
    cookie = page.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert not cookie["secure"], "browsers drop a Secure cookie of http://127.0.0.1"
    assert door.key not in str(page.headers)
    shown = await browser.get("/batches")
    assert shown.status == 200
    assert door.key not in shown.html
    stored = [key async for key in door.services.redis.scan_iter(f"{keys.SESSION}*")]
    assert len(stored) == 1
    assert cookie.value.encode() not in stored[0]
    assert 0 < await door.services.redis.pttl(stored[0]) <= keys.SESSION_TTL_MS


@pytest.mark.parametrize(
    ("headers", "status", "secure"),
    [
        ({"host": "mill.example.com"}, 403, False),
        ({"host": "mill.example.com", "x-forwarded-proto": "https"}, 303, True),
        ({"host": "localhost:1"}, 303, False),
    ],
)
async def test_off_this_machine_a_key_needs_tls(
    door: Door, browser: Browser, headers: dict[str, str], status: int, *, secure: bool
) -> None:
    """On its way through a network, plain HTTP shows the key, and later the session."""
    headers |= {"origin": f"https://{headers['host']}"}
    page = await browser.post("/login", {"key": door.key}, **headers)
    assert page.status == status
    assert bool(COOKIE in page.cookies and page.cookies[COOKIE]["secure"]) == secure
    if status == 403:
        assert "HTTPS" in page.text


async def test_a_session_ends_with_its_key_and_by_log_out(door: Door, browser: Browser) -> None:
    """A key that has leaked must not leave a way in."""
    key = await door.key_of(role="operator")
    assert (await browser.post("/login", {"key": key})).status == 303
    assert (await browser.get("/batches")).status == 200
    key_id = id_of(key)
    assert key_id is not None
    await AccessKeys(door.services.store).revoke(key_id, 1)
    assert (await browser.get("/batches")).where.startswith("/login")
    opened_again = await browser.post("/login", {"key": door.key})
    kept = opened_again.cookies[COOKIE].value
    page = await browser.act("/batches", "/logout", {})
    assert page.where == "/login"
    again = SimpleCookie({COOKIE: kept}).output(header="").strip()
    assert (await browser.get("/batches", cookie=again)).where.startswith("/login")


async def test_wrong_keys_are_damped(door: Door, browser: Browser) -> None:
    """Keys cannot be guessed fast."""
    page = await browser.post("/login", {"key": "nm_wrong"})
    assert page.status == 401
    assert "not valid" in page.text
    for _ in range(MAX_FAILURES - 1):
        await browser.post("/login", {"key": "nm_wrong"})
    page = await browser.post("/login", {"key": door.key})
    assert (page.status, page.headers["retry-after"]) == (429, "60")
    other = await browser.post("/login", {"key": door.key}, **{"x-forwarded-for": "9, 10.0.0.7"})
    assert other.status == 303, "a proxy's clients are damped one by one"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_form_of_another_site_is_refused(door: Door, headers: dict[str, str]) -> None:
    """A page that an operator visits must not cancel a batch, nor log somebody else in."""
    async with logged_in(door) as browser:
        page = await browser.post("/logout", {}, **headers)
        assert page.status == 403
        assert (await browser.post("/login", {"key": door.key}, **headers)).status == 403
        assert (await browser.get("/batches")).status == 200, "still logged in"


async def test_a_form_needs_the_token_of_its_session(door: Door) -> None:
    """The token is the second lock beside Origin."""
    async with logged_in(door) as one, logged_in(door) as two:
        assert (await one.post("/logout", {"csrf": "0"})).status == 403
        assert (await one.post("/logout", {"csrf": "\u00e9"})).status == 403
        found = re.search(r'name="csrf" value="(\w+)"', (await two.get("/batches")).html)
        assert found
        assert (await one.post("/logout", {"csrf": found[1]})).status == 403
        assert (await two.post("/logout", {"csrf": found[1]})).where == "/login"
        json = await one.post("/logout", b"{}", **{"content-type": "application/json"})
        assert json.status == 415


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"key=" + b"%22" * 30_000, 413),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 415),
    ],
    ids=["long", "another type"],
)
async def test_a_form_before_the_login_is_short(
    browser: Browser, kind: str, body: bytes, status: int
) -> None:
    """4 MB of escapes took 330 MB of memory from anybody who reaches the gateway."""
    assert (await browser.post("/login", body, **{"content-type": kind})).status == status
    assert (await browser.post("/batches/act", body, **{"content-type": kind})).status == 401


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("", b""),
        ("; boundary=x", b""),
        ("; boundary=x", b"--x"),
        ("; boundary=x", b"before--x\r\n\r\n\r\n--x--"),
        ("; boundary=x", b"--x\r\n\r\nno name\r\n--x--"),
        ("; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--'),
        ("; boundary=x", b'--x\r\nX: form-data; name="a"\r\n\r\n\r\n' * 2_001 + b"--x--"),
        ("; boundary*=x''%ff", b"--\xff--"),
    ],
)
async def test_a_form_that_is_broken_is_refused(door: Door, boundary: str, body: bytes) -> None:
    """Its parts are read by our own code, which must take whatever comes."""
    async with logged_in(door) as browser:
        kind = {"content-type": f"multipart/form-data{boundary}"}
        assert (await browser.post("/logout", body, **kind)).status == 400


async def test_login_leads_to_no_other_site(door: Door, browser: Browser) -> None:
    """A link with `next` could lead from our login to a page that looks like it."""
    for bad in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "x"):
        assert (await browser.post("/login", {"key": door.key, "next": bad})).where == "/", bad
    good = "/batches?state=running"
    assert (await browser.post("/login", {"key": door.key, "next": good})).where == good


async def test_every_answer_has_the_headers(door: Door, browser: Browser) -> None:
    """Model output is hostile: a browser must run nothing that a page holds."""
    async with logged_in(door) as inside:
        pages = [
            await browser.get("/login"),
            await browser.get("/batches"),
            await browser.get("/nowhere"),
            await inside.get("/batches"),
            await inside.get("/nowhere"),
            await inside.post("/batches"),
        ]
    for page in pages:
        policy = dict(
            part.split(" ", 1) for part in page.headers["content-security-policy"].split("; ")
        )
        assert policy.pop("img-src") == "'self'"
        assert {policy.pop(name) for name in ("default-src", "frame-ancestors", "base-uri")} == {
            "'none'"
        }
        assert set(policy) == {"script-src", "style-src", "connect-src", "form-action"}
        assert set(policy.values()) == {"'self'"}, "nothing inline, no eval"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["request-id"]


async def test_files_are_kept_by_their_hash(browser: Browser) -> None:
    """A page is fast when its style is in the browser's cache, and right after an update."""
    html = (await browser.get("/login")).html
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', html)
    assert {file.rpartition(".")[2] for file in files} == {"css", "js", "svg"}
    for file in files:
        page = await browser.get(file)
        assert page.status == 200
        assert "immutable" in page.headers["cache-control"]
    digest = files[-1].split("/")[2]
    other = await browser.get(files[-1].replace(digest, "0" * 16))
    assert other.headers["cache-control"] == "no-store"
    assert (await browser.get("/static/0/../../app.py")).status in (303, 404)
    assert (await browser.get("/static/0/console.py")).status == 404
    assert "http" not in re.sub(r"http://www.w3.org/\w+/svg", "", html), "no asset from elsewhere"


async def test_errors_are_pages_for_browsers_and_json_for_the_api(door: Door) -> None:
    """A person gets a page, a program the envelope that its SDK reads."""
    async with logged_in(door) as browser:
        page = await browser.get("/nowhere")
        assert page.status == 404
        assert "Not found" in page.text
        assert page.headers["request-id"] in page.text
        api = await browser.get("/v1/nowhere")
        assert api.headers["content-type"] == "application/json"
    answer = await door("GET", "/nowhere")
    assert answer.error == (404, "not_found_error")


async def test_without_keys_the_console_is_for_this_machine(rig: Rig) -> None:
    """`serve --insecure` on a laptop needs no login; a page of another site gets nothing."""
    async with opened(rig.settings, access=OnThisMachine()) as door, browsing(door.url) as browser:
        page = await browser.get("/batches")
        assert page.status == 200
        assert "operator of all tenants" in page.text
        assert (await browser.get("/login")).where == "/"
        assert (await browser.get("/batches", host="evil.example")).status == 403
        assert (await browser.get("/batches", origin="https://evil.example")).status == 403
        assert (await browser.post("/logout", {})).status == 403, "no token"


async def test_a_key_of_all_tenants_is_for_the_console_only(door: Door) -> None:
    """It has no tenant whose batches a program could create."""
    key = await door.key_of("*", "operator")
    assert (await door("GET", "/v1/messages/batches", key=key)).error == (403, "permission_error")


async def test_wrong_keys_at_the_same_time_are_damped_too(browser: Browser) -> None:
    """Forty at once were all looked at, since each saw that none had failed yet."""
    pages = await asyncio.gather(*(browser.post("/login", {"key": "nm_wrong"}) for _ in range(40)))
    assert sorted(page.status for page in pages) == [401] * MAX_FAILURES + [429] * (
        40 - MAX_FAILURES
    )


async def test_right_keys_are_not_damped(door: Door, browser: Browser) -> None:
    """An office behind one address logs in in the morning."""
    for _ in range(MAX_FAILURES + 2):
        assert (await browser.post("/login", {"key": door.key})).status == 303


@pytest.mark.parametrize("of", ["session", "job"])
async def test_a_page_waits_for_redis_once(
    door: Door, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """A Redis that hung kept a job's page for 20 s: it waited for the connections of others."""

    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    async with logged_in(door) as browser:
        monkeypatch.setattr(page_limit, "PAGE_S", 0.1)
        if of == "session":
            monkeypatch.setattr(Sessions, "key_id", hangs)
        else:
            monkeypatch.setattr(handlers, "read_queued", hangs)
        page = await asyncio.wait_for(browser.get("/jobs/one?id=b:1"), 10)
    assert (page.status, page.headers["retry-after"]) == (529, "5")
    assert "Redis or the results store does not answer in time: try again" in page.text


async def test_an_answer_that_has_begun_has_no_limit(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download of a large batch takes minutes."""
    await make(door, "night", total=1)

    async def slow(*_: object, **__: object) -> AsyncIterator[list[Result]]:
        await asyncio.sleep(0.2)
        yield [numbered(1, batch="night")]

    async with logged_in(door) as browser:
        monkeypatch.setattr(page_limit, "PAGE_S", 0.1)
        monkeypatch.setattr(ResultStore, "pages", slow)
        page = await browser.get("/batches/one/results.jsonl?name=night")
    assert page.status == 200
    assert page.html.count("\n") == 1


async def test_a_head_request_opens_no_stream(door: Door) -> None:
    """It would stay open for minutes, and its download would read the whole store."""
    async with logged_in(door) as browser:
        for path in ("/events?of=overview", "/batches/one/results.jsonl?name=b"):
            assert (await browser._send("HEAD", path, None, {})).status == 405
