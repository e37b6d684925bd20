"""Inputs -> checked jobs. `read_source` reads one line by line; `check_source` checks all of it."""

from nightmill.sources.content import content_of
from nightmill.sources.frames import rows_of
from nightmill.sources.jobs import items_of, line_of, row_of
from nightmill.sources.line import Line, Rejected, Row
from nightmill.sources.live import Start, in_thread, live_chunks
from nightmill.sources.opening import is_stream, open_as_it_is
from nightmill.sources.recoded import encoding_named
from nightmill.sources.shapes import named_beside, request_of
from nightmill.sources.source import (
    Format,
    Source,
    folder_of,
    plain_name,
    read_rows,
    read_source,
    require_streamable,
    source_of,
)
from nightmill.sources.source_check import (
    Summary,
    check_source,
    checked_before,
    read_checked,
    read_rejects,
)
from nightmill.sources.tabular import delimiter_named
from nightmill.sources.template import Template
from nightmill.sources.unique_ids import UniqueIds, without_duplicates

__all__ = [
    "Format",
    "Line",
    "Rejected",
    "Row",
    "Source",
    "Start",
    "Summary",
    "Template",
    "UniqueIds",
    "check_source",
    "checked_before",
    "content_of",
    "delimiter_named",
    "encoding_named",
    "folder_of",
    "in_thread",
    "is_stream",
    "items_of",
    "line_of",
    "live_chunks",
    "named_beside",
    "open_as_it_is",
    "plain_name",
    "read_checked",
    "read_rejects",
    "read_rows",
    "read_source",
    "request_of",
    "require_streamable",
    "row_of",
    "rows_of",
    "source_of",
    "without_duplicates",
]
