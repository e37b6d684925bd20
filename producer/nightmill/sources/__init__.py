"""Inputs -> checked jobs: `read_source` in one pass, `check_source` for the whole of it first."""

from nightmill.sources.jobs import items_of, line_of, row_of
from nightmill.sources.line import Line, Rejected, Row
from nightmill.sources.live import Start, in_thread, live_chunks
from nightmill.sources.once import Seen, each_once
from nightmill.sources.opening import is_stream, open_as_it_is
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
from nightmill.sources.template import Template
from nightmill.sources.whole import Summary, check_source, read_checked, read_rejects

__all__ = [
    "Format",
    "Line",
    "Rejected",
    "Row",
    "Seen",
    "Source",
    "Start",
    "Summary",
    "Template",
    "check_source",
    "each_once",
    "folder_of",
    "in_thread",
    "is_stream",
    "items_of",
    "line_of",
    "live_chunks",
    "open_as_it_is",
    "plain_name",
    "read_checked",
    "read_rejects",
    "read_rows",
    "read_source",
    "require_streamable",
    "row_of",
    "source_of",
]
