"""OpenTelemetry: a span for each call, and the GenAI metrics, when OTEL_* variables ask for it.

Attributes follow the semantic conventions for generative AI. They hold no text of a request or an
answer.
"""

from __future__ import annotations

import asyncio
import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from nightmill.errors import SettingsError
from nightmill_worker.events import Event
from nightmill_worker.group_events import CallEnded, CallsEnded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

NAME: Final = "nightmill"
PROVIDER: Final = "anthropic"
FLUSH_S: Final = 3.0
"""Longest wait at the end for the last spans to be sent, seconds."""
DURATIONS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12),
    *(10.24, 20.48, 40.96, 81.92),
)
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216)
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_NS: Final = 1_000_000
_STARTS: Final = ("OTEL_EXPORTER_", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER")


def asked_for(variables: Mapping[str, str] = os.environ) -> bool:
    """Tell whether OTEL_* variables name where to send to."""
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(name.startswith(_STARTS) and value for name, value in variables.items())


def installed() -> bool:
    """Tell whether the SDK and its exporter by HTTP are there."""
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:  # not even the folder above it
        return False


class Telemetry:
    """Listens to calls that ended."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider, base_url: str) -> None:
        """Take where spans and metrics go, and the endpoint's address."""
        self._tracers, self._meters = tracers, meters
        self._tracer = tracers.get_tracer(NAME)
        meter = meters.get_meter(NAME)
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        place = urlsplit(base_url)
        port = place.port or (443 if place.scheme == "https" else 80)
        self._server: dict[str, AttributeValue] = {
            "server.address": place.hostname or "",
            "server.port": port,
        }

    @classmethod
    def to_exporters(cls, base_url: str) -> Self:
        """Send to where the OTEL_* variables say, by OTLP over HTTP.

        Raises SettingsError for a value that the SDK refuses.
        """
        try:
            return cls._exporting(base_url)
        except ValueError as error:
            raise SettingsError(f"OTEL_* variables: OpenTelemetry refuses one: {error}") from None

    @classmethod
    def _exporting(cls, base_url: str) -> Self:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - only when asked for
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in given
        resource = Resource.create({} if named else {"service.name": NAME})
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none":
            tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers = []
        if os.environ.get("OTEL_METRICS_EXPORTER", "otlp") != "none":
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        return cls(tracers, meters, base_url)

    def listen(self, event: Event) -> None:
        """Record the calls of an event."""
        if isinstance(event, CallsEnded):
            for call in event.calls():
                self._record(call)

    def _record(self, call: CallEnded) -> None:
        common: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": call.model,
            **self._server,
        }
        if call.response_model:
            common["gen_ai.response.model"] = call.response_model
        if call.error_type:
            common["error.type"] = call.error_type
        self._seconds.record(call.duration_ms / 1000, common)
        # The conventions count tokens of the cache as input tokens.
        usage = call.usage
        cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        tokens = {"input": usage.input_tokens + cached, "output": usage.output_tokens}
        for kind, count in tokens.items():
            if count:
                self._tokens.record(count, {**common, "gen_ai.token.type": kind})
        self._span(call, {**common, **_facts(call, tokens)})

    def _span(self, call: CallEnded, attributes: Mapping[str, AttributeValue]) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        context = None
        if call.traceparent:
            carrier = {"traceparent": call.traceparent}
            context = TraceContextTextMapPropagator().extract(carrier)
        span = self._tracer.start_span(
            f"chat {call.model}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=call.started_at * _NS,
        )
        if call.error_type:
            span.set_status(Status(StatusCode.ERROR))
        span.end((call.started_at + call.duration_ms) * _NS)

    async def close(self) -> None:
        """Send what is left, FLUSH_S at most: a receiver that is away must not hold a stop up."""
        sending = threading.Thread(target=self._flush, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_S)

    def _flush(self) -> None:
        self._tracers.force_flush()
        self._meters.force_flush()


def _facts(call: CallEnded, tokens: Mapping[str, int]) -> dict[str, AttributeValue]:
    """Return the attributes of a span that would be too many values for a metric."""
    facts: dict[str, AttributeValue] = {
        "nightmill.job_id": call.job_id,
        "nightmill.attempt": call.attempt,
        "nightmill.lane": call.lane,
        "nightmill.state": call.state,
    }
    if any(tokens.values()):  # 0 tokens of a call that failed would say that they were counted
        facts["gen_ai.usage.input_tokens"] = tokens["input"]
        facts["gen_ai.usage.output_tokens"] = tokens["output"]
    optional: dict[str, AttributeValue | None] = {
        "gen_ai.usage.cache_read.input_tokens": call.usage.cache_read_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": call.usage.cache_creation_input_tokens,
        "nightmill.batch": call.batch,
        "nightmill.request_id": call.request_id,
        "http.response.status_code": call.status,
    }
    facts |= {name: value for name, value in optional.items() if value}
    if call.finish_reason:
        facts["gen_ai.response.finish_reasons"] = (call.finish_reason,)
    return facts
