"""The head of a request: its line and its headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL


def head_of(url: URL, headers: Mapping[str, str], *, by_proxy: bool) -> bytes:
    """Return the head of a POST up to its length. A proxy reads the whole address.

    `headers` have names in lower case. Raises ValueError for one that would end its line.
    """
    target = str(url) if by_proxy else url.raw_path_qs
    lines = [f"POST {target} HTTP/1.1", f"Host: {url.host_port_subcomponent}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(set(line) & set("\r\n\0") for line in lines):
        raise ValueError("a header holds a line end")
    return "\r\n".join([*lines, "content-length: "]).encode()


def with_length(head: bytes, body: bytes) -> bytes:
    """Return such a head for this body."""
    return b"%b%d\r\n\r\n" % (head, len(body))
