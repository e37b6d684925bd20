"""Log lines: no credential, and nothing that controls the terminal that shows them."""

from __future__ import annotations

import json
import logging

import pytest
from opentelemetry.util.re import parse_env_headers

from nightmill import load_settings
from nightmill.safety import logger
from nightmill.safety.logger import libraries_logged
from nightmill_worker.events import CallFailed, RedisAway
from nightmill_worker.logs import log_events

KEY = "sk-secret-01234"
EVIL = "\x1b]0;owned\x07\x9b31m\u202e"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_line_has_no_credential(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of servers quote what they got, such as the arguments of AUTH."""
    settings = load_settings(api_key=KEY, redis_url="redis://:redis-pw-1@h/0", log_format=form)
    listen = log_events(settings)
    listen(CallFailed(job_id="b:1", error_type="e", message=f"bad {KEY}", wait_ms=5))
    listen(RedisAway(problem="ERR unknown command AUTH, with args: 'redis-pw-1'"))
    shown = capsys.readouterr().err
    assert shown.count("[credential]") == 2
    assert KEY not in shown
    assert "redis-pw-1" not in shown


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_line_controls_no_terminal(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An id or an answer could hide the line above it."""
    listen = log_events(load_settings(log_format=form))
    listen(CallFailed(job_id=f"b:{EVIL}", error_type="e", message=f"m {EVIL}", wait_ms=5))
    shown = capsys.readouterr().err
    assert not set(shown) & set("\x1b\x07\x9b\u202e")
    if form == "json":
        assert json.loads(shown)["message"] == f"m {EVIL}"
    else:
        assert r"job_id=b:\x1b]0;owned\x07\x9b31m\u202e" in shown


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_a_library_warns_of_is_a_line_of_the_log(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A receiver of traces that is away, say: its text is no JSON, and may quote a URL."""
    settings = load_settings(api_key=KEY, log_format=form)
    library = logging.getLogger("opentelemetry.exporter")
    with libraries_logged(settings):
        library.error("cannot send %s %s", KEY, EVIL, exc_info=ValueError(KEY))
        library.info("fine")
    shown = capsys.readouterr().err
    assert KEY not in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e")
    assert "fine" not in shown
    if form == "json":
        line = json.loads(shown)
        assert (line["event"], line["level"]) == ("library reported", "error")
        assert (line["library"], line["message"]) == (
            library.name,
            f"cannot send [credential] {EVIL}",
        )
        assert "ValueError: [credential]" in line["traceback"]
    library.warning("after the block")
    assert "library reported" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("level", "logged"), [("debug", "we"), ("info", "we"), ("warning", "we"), ("error", "e")]
)
def test_what_libraries_warn_of_follows_the_level_of_the_log(
    level: str, logged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what they say at info is never a line: they say much."""
    library = logging.getLogger("opentelemetry.exporter")
    with libraries_logged(load_settings(log_level=level, log_format="json")):
        library.info("i")
        library.warning("w")
        library.error("e")
    lines = map(json.loads, capsys.readouterr().err.splitlines())
    assert "".join(line["message"] for line in lines) == logged


def test_a_block_within_a_block_logs_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway of one process serves its metrics, too."""
    settings = load_settings(log_format="json")
    with libraries_logged(settings):
        with libraries_logged(settings):
            logging.getLogger("x").warning("inner")
        logging.getLogger("x").warning("outer")
    lines = map(json.loads, capsys.readouterr().err.splitlines())
    assert [line["message"] for line in lines] == ["inner", "outer"]


def test_a_record_that_cannot_be_logged_raises_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of the library that warned goes on, and no argument of it is shown."""
    handler = logger._ToLog(load_settings(log_format="json"))
    unfit = logging.LogRecord("x", logging.WARNING, "x.py", 1, "wants a number: %d", (KEY,), None)
    handler.emit(unfit)
    assert json.loads(capsys.readouterr().err)["message"] == "wants a number: %d"
    monkeypatch.setattr(logger, "_message", None)
    handler.emit(unfit)
    assert capsys.readouterr().err == ""


def test_the_logger_for_libraries_is_made_for_their_first_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most processes never need it, and it reads all credentials."""
    made: list[object] = []
    monkeypatch.setattr(logger, "make_logger", made.append)
    with libraries_logged(load_settings()):
        assert made == []
        logging.getLogger("x").warning("first")
        assert len(made) == 1


@pytest.mark.parametrize(
    "given",
    [
        f"authorization: Bearer {KEY}",
        json.dumps({"authorization": f"Bearer {KEY}"}),
        f"x-team: a; authorization: Bearer {KEY}",
    ],
)
def test_a_header_that_opentelemetry_cannot_read_is_no_credential_in_the_log(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exporter warns with the whole header."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", given)
    with libraries_logged(load_settings()):
        assert not parse_env_headers(given, liberal=True)
    shown = capsys.readouterr().err
    assert "Header format invalid" in shown
    assert KEY not in shown
