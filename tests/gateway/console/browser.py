"""A browser without scripts: it keeps cookies, sends Origin, and finds the token of a form."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from nightmill.records.access_key import Role
    from tests.gateway.door import Door

TOKEN = re.compile(r'name="csrf" value="([0-9a-f]+)"')


@dataclass(frozen=True, kw_only=True)
class Page:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    html: str
    cookies: SimpleCookie

    @property
    def text(self) -> str:
        """The text of the page, without its tags."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.html)).split())

    @property
    def where(self) -> str:
        """Where a redirect leads."""
        assert self.status == 303, (self.status, self.text)
        return self.headers["location"]


class _Risks(HTMLParser):
    """Collects what a browser would run or load, other than the console's own files."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            target = (value or "").strip().lower()
            own = target.startswith(("/", "#", "?")) and not target.startswith("//")
            loads = name in {"href", "src", "action", "srcset", "data", "formaction", "xlink:href"}
            if name.startswith("on") or name in {"style", "srcdoc"} or (loads and not own):
                self.found.append(f"{tag} {name}={value}")
        if tag in {"iframe", "object", "embed", "base", "style"}:
            self.found.append(tag)
        if tag == "script" and not (dict(attrs).get("src") or "").startswith("/static/"):
            self.found.append("inline script")


def risks(html: str) -> list[str]:
    """Return what a page holds that a browser would run, or load from elsewhere."""
    parser = _Risks()
    parser.feed(html)
    return parser.found


@dataclass
class Browser:
    """One browser at one gateway."""

    url: str
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Page:
        """Open a page; a redirect is not followed."""
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, fields: object = (), **headers: str) -> Page:
        """Send a form as it is, with Origin as browsers send it."""
        return await self._send("POST", path, fields, {"origin": self.url, **headers})

    async def act(self, page: str, path: str, fields: Mapping[str, object]) -> Page:
        """Send a form with the token that stands on `page`, as its `enctype` says."""
        html = (await self.get(page)).html
        found = TOKEN.search(html)
        assert found, f"no form on {page}"
        pairs = [("csrf", found[1])]
        for name, value in fields.items():
            values = value if isinstance(value, list) else [value]
            pairs += [(name, str(each)) for each in values]
        if f'action="{path}" enctype="multipart/form-data"' not in html:
            return await self.post(path, pairs)
        part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
        body = "".join(part.format(*pair) for pair in pairs).encode() + b"--x--\r\n"
        kind = {"content-type": "multipart/form-data; boundary=x"}
        return await self.post(path, io.BytesIO(body), **kind)

    async def _send(
        self, method: str, path: str, fields: object, headers: Mapping[str, str]
    ) -> Page:
        sent = {"accept": "text/html", **self.headers, **headers}
        async with self.session.request(
            method, self.url + path, data=fields, headers=sent, allow_redirects=False
        ) as got:
            return Page(
                status=got.status,
                headers={name.lower(): value for name, value in got.headers.items()},
                html=await got.text(),
                cookies=got.cookies,
            )


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Browser]:
    """Open a browser without a session."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Browser(url, session)


@asynccontextmanager
async def logged_in(
    door: Door, role: Role = "operator", tenant: str = "*"
) -> AsyncIterator[Browser]:
    """Open a browser that has logged in with a new key."""
    async with browsing(door.url) as browser:
        key = await door.key_of(role=role, tenant=tenant)
        assert (await browser.post("/login", {"key": key})).where == "/"
        yield browser
