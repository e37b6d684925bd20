"""Rows -> jobs: checked, and ready to be enqueued."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import closing

from nightmill.errors import InvalidParamsError
from nightmill.params import Defaults, check, refused
from nightmill.sources.line import Line, Rejected, Row, rejected
from nightmill.sources.once import Seen
from nightmill.sources.shapes import plain
from nightmill.sources.template import Template


def lines(
    rows: Iterable[Row | Rejected], defaults: Defaults, template: Template | None = None
) -> Iterator[Line | Rejected]:
    """Yield each row as a job, or with what is wrong with it."""
    for row in rows:
        yield row if isinstance(row, Rejected) else line_of(row, defaults, template)


def items_of(
    items: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
    defaults: Defaults,
    template: Template | None = None,
) -> Iterator[Line | Rejected] | AsyncIterator[Line | Rejected]:
    """Yield each of `items`, which come from Python, as a job; the first is line 1.

    An id that came before is Rejected.

    An item is what `dict` takes: a mapping, or a record of a database. An asynchronous source
    stays one, and either is closed with what this returns.
    """
    if isinstance(items, AsyncIterable):
        return _async_items(items, defaults, template)
    return _items(items, defaults, template)


def _items(
    items: Iterable[Mapping[str, object]], defaults: Defaults, template: Template | None
) -> Iterator[Line | Rejected]:
    try:
        with closing(Seen()) as seen:
            for number, item in enumerate(items, 1):
                yield seen.judge(line_of(row_of(item, number), defaults, template))
    finally:
        if callable(close := getattr(items, "close", None)):
            close()


async def _async_items(
    items: AsyncIterable[Mapping[str, object]], defaults: Defaults, template: Template | None
) -> AsyncIterator[Line | Rejected]:
    number = 0
    each = aiter(items)
    try:
        with closing(Seen()) as seen:
            async for item in each:
                number += 1
                yield seen.judge(line_of(row_of(item, number), defaults, template))
    finally:
        if callable(close := getattr(each, "aclose", None)):
            await close()


def row_of(item: Mapping[str, object], number: int) -> Row:
    """Return the `number`-th (from 1) item of a Python source as a row.

    Raises InvalidParamsError when it is nothing like a mapping.
    """
    try:
        return Row(number=number, columns=dict(item))
    except (TypeError, ValueError):
        raise refused("", item, "a mapping, one request or row").at_line(number) from None


def line_of(row: Row, defaults: Defaults, template: Template | None = None) -> Line | Rejected:
    """Return the job that `row` is, or that `template` makes of it, or why it cannot be one."""
    try:
        if template is None:
            custom_id, params = plain(row)
        else:
            custom_id, params = template.job(row)
        checked = check(params, defaults)
    except InvalidParamsError as error:
        return rejected(row.number, error, row.raw or _written(row))
    return Line(
        number=row.number,
        custom_id=custom_id,
        body=checked.body,
        model=checked.model,
        warnings=checked.warnings,
    )


def _written(row: Row) -> bytes:
    """Return how a row looks whose own bytes nobody kept."""
    return str(row.columns).encode(errors="replace")
