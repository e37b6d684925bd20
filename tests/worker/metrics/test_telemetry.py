"""OpenTelemetry: spans and metrics of calls, and nothing of it when nobody asks."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from nightmill import load_settings
from nightmill.errors import SettingsError
from nightmill.safety.logger import libraries_logged
from nightmill_worker.events import Event, Events, TelemetryMissing
from nightmill_worker.group_events import CallsEnded
from nightmill_worker.machine import process
from nightmill_worker.metrics import telemetry
from nightmill_worker.metrics.telemetry import Telemetry, asked_for
from tests.rig import Rig, hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path, max_attempts=1) as made:
        yield made


class Memory:
    """Where spans and metrics of a test go."""

    def __init__(self) -> None:
        """Make the providers."""
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry(
            self.tracers, MeterProvider([self.reader]), "https://api.example.com/v1"
        )

    def hear(self, rig: Rig) -> list[ReadableSpan]:
        """Let it hear the events of a rig; return the spans."""
        for event in rig.events_of(CallsEnded):
            self.telemetry.listen(event)
        return list(self.exporter.get_finished_spans())

    def points(self) -> dict[str, list[Any]]:
        """Return metric -> its data points."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of a span."""
    assert span.attributes is not None
    return span.attributes


async def test_a_call_is_a_span_with_the_attributes_of_the_conventions(rig: Rig) -> None:
    """Names are those of the installed conventions, so that backends know them."""
    await rig.producer.enqueue(hello("canary-7f3a"), batch="night", custom_id="a")
    async with rig.working():
        row = await rig.row("night:a")
    memory = Memory()
    (span,) = memory.hear(rig)
    found = attributes(span)
    names = gen_ai_attributes
    assert span.name == f"chat {row.model}"
    assert found[names.GEN_AI_OPERATION_NAME] == "chat"
    assert found[names.GEN_AI_PROVIDER_NAME] == "anthropic"
    assert found[names.GEN_AI_REQUEST_MODEL] == row.model
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == row.usage.input_tokens
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == row.usage.output_tokens
    assert found[names.GEN_AI_RESPONSE_FINISH_REASONS] == (row.stop_reason,)
    assert found["server.address"] == "api.example.com"
    assert found["server.port"] == 443
    assert (found["nightmill.job_id"], found["nightmill.batch"]) == ("night:a", "night")
    assert found["http.response.status_code"] == 200
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e6 == pytest.approx(row.call_ms, abs=2)
    assert "canary" not in span.to_json()


async def test_the_metrics_have_the_names_and_units_of_the_conventions(rig: Rig) -> None:
    """Duration in seconds, tokens by type."""
    await rig.producer.enqueue(hello(), job_id="a")
    async with rig.working():
        row = await rig.row("a")
    memory = Memory()
    memory.hear(rig)
    points = memory.points()
    (duration,) = points[gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION]
    assert duration.sum == pytest.approx(row.call_ms / 1000, abs=0.01)
    tokens = {
        point.attributes[gen_ai_attributes.GEN_AI_TOKEN_TYPE]: point.sum
        for point in points[gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE]
    }
    assert tokens == {"input": row.usage.input_tokens, "output": row.usage.output_tokens}
    assert not any("job" in name for name in duration.attributes)


async def test_a_failed_call_has_its_error_type(rig: Rig) -> None:
    """And an error status, and no usage: 0 tokens would say that they were counted."""
    await rig.producer.enqueue({**hello(), "model": "none-such"}, job_id="a")
    rig.sim.configure(down=500)
    async with rig.working():
        await rig.row("a")
    (span,) = Memory().hear(rig)[:1]
    assert not span.status.is_ok
    assert attributes(span)["error.type"] == "api_error"
    assert not [name for name in attributes(span) if name.startswith("gen_ai.usage.")]


async def test_the_call_is_a_part_of_the_trace_that_enqueued_it(rig: Rig) -> None:
    """A service finds the call under its own request."""
    memory = Memory()
    with memory.tracers.get_tracer("service").start_as_current_span("request") as parent:
        await rig.producer.enqueue(hello(), job_id="a")
    await rig.producer.enqueue(hello(), job_id="b")
    async with rig.working():
        await rig.row("a")
        await rig.row("b")
    spans = {attributes(s).get("nightmill.job_id"): s for s in memory.hear(rig)}
    inside, outside = spans["a"], spans["b"]
    assert inside.parent is not None
    assert inside.parent.span_id == parent.get_span_context().span_id
    assert inside.context.trace_id == parent.get_span_context().trace_id
    assert outside.parent is None


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_it_is_on_when_the_variables_say_where_to_send_to(
    variables: dict[str, str], asked: object
) -> None:
    """A name alone is no wish to send."""
    assert asked_for(variables) is asked


def test_a_value_that_the_sdk_refuses_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback, and not a night without traces."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    with pytest.raises(SettingsError, match=r"OTEL_\* variables.*COUNT_LIMIT must be.*many"):
        Telemetry.to_exporters("https://api.example.com")


def test_a_timeout_that_is_no_number_is_a_line_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The SDK refuses few values: in the place of most it takes its default."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with libraries_logged(load_settings(log_format="json")):
        OTLPSpanExporter()
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "library reported"
    assert "Invalid timeout value 'soon'" in line["message"]


@pytest.mark.parametrize("missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter"])
def test_what_is_asked_for_and_not_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Another program's variables may ask for it: the worker runs, and its log has a line."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    events, heard = Events(), list[Event]()
    events.subscribe(heard.append)

    def find(name: str) -> object:
        if name.startswith(missing):
            raise ModuleNotFoundError(name)
        return find_spec(name)

    monkeypatch.setattr(telemetry, "find_spec", find)
    assert process._telemetry(load_settings(), events) is None
    assert [type(each) for each in heard] == [TelemetryMissing]
