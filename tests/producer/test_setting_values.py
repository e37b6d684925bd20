"""Settings that are more than a number: addresses of endpoint and Redis, headers."""

from __future__ import annotations

import pytest

from nightmill.errors import SettingsError
from nightmill.setting_values import RESERVED_HEADERS, endpoint_of
from nightmill.settings import load_settings


@pytest.mark.parametrize(
    "end", ["", "/", "/v1", "/v1/", "/v1//", "/v1/messages", "/v1/messages/", "?", "#"]
)
@pytest.mark.parametrize("path", ["", "/gateway", "/v1/account/gw"])
def test_what_people_write_as_base_url_is_one_endpoint(path: str, end: str) -> None:
    """`/v1/messages` in BASE_URL was called as /v1/messages/v1/messages: 404 for every job."""
    assert endpoint_of(f"https://h:1{path}{end}") == f"https://h:1{path}"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("https://h/v1?beta=true", "give https://h$"),
        ("https://h/v1#x", "give https://h$"),
        ("https://h/v1/messages/batches", "ends in /batches: give what stands before"),
        ("https://h/v1/chat/completions", "ends in /completions: give what stands before"),
        ("https://h/messages", "ends in /messages: give what stands before"),
        ("https://h/v1/v1", "ends in /v1: give what stands before"),
        ("https://u:hunter2@h", "set API_KEY or AUTH_TOKEN instead"),
        ("https://h:hunter2", "not an http"),
        ("https://", "not an http"),
        ("https://a b", "not an http"),
        ("https://[::1", "not an http"),
        ("h.example", "not an http"),
        ("ftp://h", "not an http"),
    ],
)
def test_other_base_urls_are_refused_with_the_fix(given: str, problem: str) -> None:
    """They failed every job, or were called with a doubled path."""
    with pytest.raises(ValueError, match=problem) as caught:
        endpoint_of(given)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match="NIGHTMILL_BASE_URL"):
        load_settings(base_url=given)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0",
        "rediss://u:p%40w@h/15?ssl_cert_reqs=none",
        "redis://:p@w@h/1",
        "unix:///tmp/a@b.sock?db=1&password=pw",
        "redis://[::1]:6379/0",
    ],
)
def test_urls_of_redis_that_work(url: str) -> None:
    """redis-py reads them as they are meant."""
    assert load_settings(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:12#hunter2@h/0",
        "redis://:12/hunter2@h/0",
        "redis://:12?hunter2@h/0",
        "redis://:hunter2#a@h",
        "redis://h/hunter2",
        "redis://h/0?decode_responses=true",
        "redis://h/0?foo=hunter2",
        "unix://",
        "http://hunter2",
        "hunter2",
    ],
)
def test_urls_of_redis_that_are_read_otherwise_than_meant_are_refused(url: str) -> None:
    """A part of the password was taken for a port or a database, and shown in errors."""
    with pytest.raises(SettingsError, match="NIGHTMILL_REDIS_URL: ") as caught:
        load_settings(redis_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("anthropic-beta: a,b", {"anthropic-beta": "a,b"}),
        ("X-A: 1\r\n\nX-B:2:3 ", {"x-a": "1", "x-b": "2:3"}),
        ('{"X-A": "1"}', {"x-a": "1"}),
        (" ", {}),
    ],
)
def test_headers_are_lines_or_json(given: str, expected: dict[str, str]) -> None:
    """A compose file and a shell can write one or the other."""
    assert load_settings(headers=given).extra_headers == expected


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("anthropic-beta hunter2", "not `Name: value`"),
        ("a b: hunter2", "header 1"),
        ('{"a": 1}', "not a JSON object of texts"),
        ("x-a: h\u00e4nter2", "x-a holds characters"),
        ("x-a: hunter2\nX-A: hunter2", "given twice"),
        *((f"{name.title()}: hunter2", "cannot be set here: ") for name in RESERVED_HEADERS),
    ],
)
def test_headers_that_cannot_be_are_refused(given: str, problem: str) -> None:
    """Two credentials or lengths in one call would be an error of the endpoint, or worse."""
    with pytest.raises(SettingsError, match=problem) as caught:
        load_settings(headers=given)
    assert "hunter2" not in str(caught.value)
    assert "NIGHTMILL_HEADERS" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    ["host=h dbname=d password=hunter2", "postgresql:hunter2", "Postgres:hunter2", ":memory:"],
)
def test_a_store_that_is_neither_path_nor_url_is_refused(given: str) -> None:
    """Libpq's own form was the name of a SQLite file: the password in it, and the results."""
    with pytest.raises(SettingsError, match="STORE_URL: neither a file's path nor a URL") as caught:
        load_settings(store_url=given)
    assert "hunter2" not in str(caught.value)
    assert load_settings(store_url="/srv/a:b/results.db").store_at == "/srv/a:b/results.db"
