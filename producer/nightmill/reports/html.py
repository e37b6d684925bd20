"""Pieces of an HTML page. Every text that is given is escaped; only `Html` passes as it is."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NewType

from nightmill.safety.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Html = NewType("Html", str)
"""A text that is HTML already."""


def text(content: object) -> Html:
    """Return a text as HTML, with characters that control or reorder it shown as text."""
    return Html(escape(visible(str(content))))


def tag(name: str, *inner: str, kind: str = "") -> Html:
    """Return an element; `inner` is HTML. `kind` is a class."""
    about = f' class="{escape(kind)}"' if kind else ""
    return Html(f"<{name}{about}>{''.join(inner)}</{name}>")


def paragraph(content: str, kind: str = "") -> Html:
    """Return a paragraph of a text."""
    return tag("p", text(content), kind=kind)


def cards(pairs: Iterable[tuple[str, str, str, str]]) -> Html:
    """Return figures with their labels: label, figure, a remark below it, a class."""
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", text(label)),
                tag("dd", text(figure), tag("small", text(remark)) if remark else "", kind=kind),
                kind="card",
            )
            for label, figure, remark, kind in pairs
        ),
        kind="cards",
    )


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Html]],
    *,
    texts: int = 1,
    foot: Sequence[str] = (),
    kind: str = "",
) -> Html:
    """Return a table; columns after the first `texts` hold numbers. Cells are HTML already.

    `kind` is a class.
    """

    def cells(name: str, row: Sequence[str], scope: str = "") -> Html:
        numbers = (' class="number"' if n >= texts else "" for n in range(len(row)))
        pairs = zip(row, numbers, strict=True)
        return Html("".join(f"<{name}{scope}{kind}>{cell}</{name}>" for cell, kind in pairs))

    head = tag("thead", tag("tr", cells("th", [*map(text, headings)], ' scope="col"')))
    body = tag("tbody", *(tag("tr", cells("td", row)) for row in rows))
    last = tag("tfoot", tag("tr", cells("td", foot))) if foot else Html("")
    return tag("div", tag("table", head, body, last, kind=kind), kind="wide")


def code(command: str) -> Html:
    """Return a command to copy."""
    return tag("code", text(command))
