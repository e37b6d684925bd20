"""/metrics of `worker`, `run` and `serve`: right with many processes, and as documented."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.test_docs import table
from tests.integration.shell import Endpoint, Shell, finish, until

WORKERS, FLEET, GATEWAY = "metric of workers", "metric of the fleet", "metric of the gateway"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scrape(port: int) -> str:
    """Return the text of /metrics, "" when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def value(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def documented(*headings: str) -> dict[str, tuple[str, list[str]]]:
    """Return metric -> (type, labels) of tables of docs/metrics.md."""
    return {
        row[0].strip("`"): (row[1], sorted(x.strip("` ") for x in row[2].split(",") if x.strip()))
        for heading in headings
        for row in table("metrics.md", heading)
    }


def exposed(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return the same of what was scraped; metrics that have no sample are left out."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            sorted({name for sample in family.samples for name in sample.labels} - {"le"}),
        )
        for family in text_string_to_metric_families(text)
        if family.samples
    }


def checked(text: str) -> None:
    """Let promtool look at it: names, help texts, types."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_processes_of_a_run_are_added_up_and_a_dead_one_takes_nothing_along(
    shell: Shell, endpoint: Endpoint
) -> None:
    """Every job is counted once, also after the process that counted it was killed."""
    port = free_port()
    shell.export(metrics_port=str(port), rpm="100000")
    endpoint.configure(latency_s=0.3)
    name = shell.write(400)
    with shell.started("run", name, "--processes", "2", "--concurrency", "20") as run:
        until(lambda: value(scrape(port), "nightmill_jobs_total", outcome="succeeded") > 40)
        until(lambda: exposed(scrape(port)) == documented(WORKERS, FLEET))
        before = scrape(port)
        checked(before)
        os.kill(shell.pids("machine.process")[0], signal.SIGKILL)
        until(lambda: value(scrape(port), "nightmill_workers") >= 2)
        last = before
        while text := scrape(port):
            for metric in (
                "nightmill_jobs_total",
                "nightmill_calls_total",
                "nightmill_tokens_total",
            ):
                assert value(text, metric) >= value(last, metric)
            last = text
            assert value(text, "nightmill_jobs_total") <= 400 + value(
                text, "nightmill_duplicates_refused_total"
            )
        finish(run, 0)
    assert value(last, "nightmill_jobs_total", outcome="succeeded") > 100
    assert value(last, "nightmill_jobs_total", outcome="failed") == 0


def test_what_is_counted_is_what_status_and_the_store_say(shell: Shell, endpoint: Endpoint) -> None:
    """A number on a dashboard that differs from the bill's is worth nothing."""
    port = free_port()
    shell.export(metrics_port=str(port), rpm="600")
    endpoint.configure(latency_s=0.05)
    shell.write(30)
    shell("enqueue", "prompts.jsonl")
    with shell.started("worker", "--processes", "2") as worker:
        until(lambda: value(scrape(port), "nightmill_jobs_total") == 30)
        until(lambda: value(scrape(port), "nightmill_lane_calls_total") == 30)
        until(lambda: value(scrape(port), "nightmill_queue_jobs") == 0)
        text = scrape(port)
        status: dict[str, Any] = shell.status()
        assert value(text, "nightmill_jobs_total", outcome="succeeded") == 30
        for kind in ("input", "output"):
            assert value(text, "nightmill_tokens_total", kind=kind) == status["tokens"][kind]
        cost = status["cost"]["usd"]
        assert value(text, "nightmill_cost_dollars_total") == pytest.approx(cost)
        assert value(text, "nightmill_calls_total", status="200", error_type="none") == 30
        assert value(text, "nightmill_call_duration_seconds_count") == 30
        assert value(text, "nightmill_queue_jobs") == 0
        assert value(text, "nightmill_redis_up") == 1
        assert value(text, "nightmill_lane_limit_units_per_second", dimension="requests") == 10
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)


def test_clients_of_the_port_that_send_nothing_hold_up_neither_scrapes_nor_the_end(
    shell: Shell,
) -> None:
    """A worker that does not end after SIGTERM is killed, with its calls in flight."""
    port = free_port()
    shell.export(metrics_port=str(port))
    with shell.started("worker") as worker:
        until(lambda: value(scrape(port), "nightmill_workers") == 1)
        with socket.create_connection(("127.0.0.1", port)) as idle:
            assert value(scrape(port), "nightmill_redis_up") == 1
            worker.send_signal(signal.SIGTERM)
            finish(worker, 0)
            assert idle.fileno() > 0


def test_a_port_in_use_is_said_and_no_worker_starts(shell: Shell) -> None:
    """A fleet whose metrics nobody reads would be found out too late."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shell.export(metrics_port=str(port))
        done = shell("worker")
    assert done.code == 2
    assert f"metrics: cannot listen on 127.0.0.1:{port}: Address already in use" in done.err


def test_without_a_port_nothing_is_imported(shell: Shell) -> None:
    """Off costs nothing."""
    found = shell.python(
        "import sys, nightmill_worker.machine.process, nightmill_worker.machine.supervisor\n"
        "import nightmill_gateway.app, nightmill_gateway.processes\n"
        "print([m for m in sys.modules if m.startswith(('prometheus_client', 'opentelemetry'))])"
    )
    assert found.strip() == "[]"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_gateway_counts_the_requests_of_all_its_processes(shell: Shell, processes: str) -> None:
    """Routes are templates: an id in a label would be a series for each client's job."""
    port, web = free_port(), free_port()
    options = ("--insecure", "--port", str(web), "--processes", processes)
    with shell.started("serve", *options, "--metrics-port", str(port)) as serve:
        until(lambda: ask(web, "/healthz") == 200)
        for path in ("/v1/messages/batches/a", "/v1/messages/batches/b", "/nowhere", "/else"):
            assert ask(web, path) == 404
        text = scrape(port)
        checked(text)
        asked = {"method": "GET", "status": "404"}
        name = "nightmill_gateway_requests_total"
        assert value(text, name, route="other", **asked) == 2
        templates = {
            sample.labels["route"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }
        assert not any("batches/a" in each for each in templates)
        assert value(text, name, **asked) == 4
        assert value(text, "nightmill_gateway_waiting_clients") == 0
        assert exposed(text).items() >= documented(GATEWAY).items()
        serve.send_signal(signal.SIGINT)
        finish(serve, 0)


def ask(port: int, path: str) -> int:
    """Return the status of a GET, 0 when nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
