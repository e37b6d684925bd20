"""The trace that a caller of `enqueue` is in: the call of its job is made a part of it."""

from __future__ import annotations

import sys
from typing import Final

LIBRARY: Final = "opentelemetry.trace"


def traceparent() -> str | None:
    """Return the current span as a W3C traceparent, None without one.

    Without an application that uses OpenTelemetry nothing is imported.
    """
    trace = sys.modules.get(LIBRARY)
    if trace is None:
        return None
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
