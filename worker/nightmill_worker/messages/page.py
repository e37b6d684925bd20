"""The words of an HTML page: what a proxy, a firewall or a login page says to a person. Pure."""

from __future__ import annotations

from contextlib import suppress
from html.parser import HTMLParser
from typing import Final

from nightmill_worker.messages.text import beginning, clean

PAGE_BYTES: Final = 16 << 10
"""Bytes of a page that are read. The words that matter come first."""
UNSEEN: Final = frozenset({"head", "script", "style", "noscript", "svg", "template"})
"""Elements whose text is not shown to a person."""


def page_words(body: bytes, limit: int) -> str | None:
    """Return the title of an HTML or XML page and its text, at most `limit` characters.

    "" is a page without words. None is no page.
    """
    text = beginning(body.strip(), PAGE_BYTES)
    if not text.startswith("<"):
        return None
    page = _Page()
    with suppress(AssertionError, ValueError):  # html.parser: some broken declarations
        page.feed(text)
        page.close()
    title, words = " ".join(page.title.split()), " ".join(" ".join(page.words).split())
    words = words.removeprefix(title).lstrip(" .:-")
    return clean(": ".join(filter(None, (title, words))), limit)


class _Page(HTMLParser):
    """Collects the title and the visible texts."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.words: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag == "body":
            self._inside.clear()
        elif tag == "title" or tag in UNSEEN:
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            del self._inside[self._inside.index(tag) :]

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] == ["title"] and "svg" not in self._inside:
            self.title += data
        elif not self._inside:
            self.words.append(data)
