"""Input files -> checked jobs: `read_jsonl` for a stream, `check_file` for a whole file first."""

from nightmill.sources.jsonl import read_jsonl
from nightmill.sources.line import Line, Rejected
from nightmill.sources.live import live_chunks
from nightmill.sources.opening import is_stream, open_source
from nightmill.sources.whole import Summary, check_file, read_checked, read_rejects

__all__ = [
    "Line",
    "Rejected",
    "Summary",
    "check_file",
    "is_stream",
    "live_chunks",
    "open_source",
    "read_checked",
    "read_jsonl",
    "read_rejects",
]
