"""OTLP over HTTP: what a run sends to a receiver, and that one that is away holds nothing up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.shell import Shell


@contextmanager
def receiver() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """Yield the address of an OTLP receiver, and path -> bodies that it got."""
    got: dict[str, list[bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_a_run_sends_a_span_for_each_call(shell: Shell) -> None:
    """Of all its processes, with the service's name, and no prompt."""
    name = shell.write(12)
    with receiver() as (url, got):
        shell.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        done = shell("run", name, "--processes", "2")
    assert done.code == 0, done.err
    traces = [ExportTraceServiceRequest.FromString(body) for body in got["/v1/traces"]]
    resources = [each for trace in traces for each in trace.resource_spans]
    spans = [s for each in resources for scope in each.scope_spans for s in scope.spans]
    attributes = [attribute for span in spans for attribute in span.attributes]
    jobs = {each.value.string_value for each in attributes if each.key == "nightmill.job_id"}
    assert jobs == {f"prompts:c{i}" for i in range(12)}
    about = [attribute for each in resources for attribute in each.resource.attributes]
    assert {a.value.string_value for a in about if a.key == "service.name"} == {"nightmill"}
    assert not any(b"prompt number" in body for body in got["/v1/traces"])
    metrics = [ExportMetricsServiceRequest.FromString(body) for body in got["/v1/metrics"]]
    names = {
        metric.name
        for each in metrics
        for resource in each.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


def test_a_receiver_that_is_away_fails_no_run(shell: Shell) -> None:
    """Results matter more than traces of them."""
    shell.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    done = shell("run", shell.write(3))
    assert done.code == 0, done.err
    assert len(shell.rows()) == 3
