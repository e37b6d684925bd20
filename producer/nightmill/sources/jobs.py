"""Rows -> jobs: checked, and ready to be enqueued."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import closing

from nightmill.errors import InvalidParamsError
from nightmill.params import Defaults, api_in, check, refused
from nightmill.sources.frames import rows_of
from nightmill.sources.line import Line, Rejected, Row, rejected
from nightmill.sources.shapes import named_beside, plain
from nightmill.sources.template import Template
from nightmill.sources.unique_ids import UniqueIds


def lines(
    rows: Iterable[Row | Rejected], defaults: Defaults, template: Template | None = None
) -> Iterator[Line | Rejected]:
    """Yield each row as a job, or as Rejected with the reason."""
    for row in rows:
        yield row if isinstance(row, Rejected) else line_of(row, defaults, template)


def items_of(
    items: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
    defaults: Defaults,
    template: Template | None = None,
) -> Iterator[Line | Rejected] | AsyncIterator[Line | Rejected]:
    """Yield each of `items`, from a Python program, as a job; the first is line 1.

    An item is anything that `dict` takes: a mapping, or a database record. An item with an id that
    came before is Rejected. An asynchronous `items` gives an asynchronous iterator. Closing the
    iterator closes `items`. A DataFrame gives its rows.
    """
    items = rows_of(items)
    if isinstance(items, AsyncIterable):
        return _async_items(items, defaults, template)
    return _items(items, defaults, template)


def _items(
    items: Iterable[Mapping[str, object]], defaults: Defaults, template: Template | None
) -> Iterator[Line | Rejected]:
    try:
        with closing(UniqueIds()) as ids:
            for number, item in enumerate(items, 1):
                yield ids.check(line_of(row_of(item, number), defaults, template))
    finally:
        if callable(close := getattr(items, "close", None)):
            close()


async def _async_items(
    items: AsyncIterable[Mapping[str, object]], defaults: Defaults, template: Template | None
) -> AsyncIterator[Line | Rejected]:
    number = 0
    each = aiter(items)
    try:
        with closing(UniqueIds()) as ids:
            async for item in each:
                number += 1
                yield ids.check(line_of(row_of(item, number), defaults, template))
    finally:
        if callable(close := getattr(each, "aclose", None)):
            await close()


def row_of(item: Mapping[str, object], number: int) -> Row:
    """Return the `number`-th (from 1) item of a Python source as a row.

    Raises InvalidParamsError when `dict` does not take it.
    """
    try:
        return Row(number=number, columns=dict(item))
    except (TypeError, ValueError):
        raise refused("", item, "a mapping, one request or row").at_line(number) from None


def line_of(row: Row, defaults: Defaults, template: Template | None = None) -> Line | Rejected:
    """Return the job of `row`, or the one that `template` makes of it; Rejected if it is none."""
    try:
        warnings: tuple[str, ...] = ()
        if template is None:
            custom_id, params = plain(row)
        else:
            custom_id, params, warnings = template.job(row)
        api = api_in(named_beside(row)).or_else(defaults.api)
        checked = check(params, defaults, api)
    except InvalidParamsError as error:
        return rejected(row.number, error, row.raw or _written(row))
    return Line(
        number=row.number,
        custom_id=custom_id,
        body=checked.body,
        model=checked.model,
        warnings=(*row.warnings, *warnings, *checked.warnings),
        api=api,
    )


def _written(row: Row) -> bytes:
    """Return a row as text, for a row whose own bytes are not kept."""
    return str(row.columns).encode(errors="replace")
