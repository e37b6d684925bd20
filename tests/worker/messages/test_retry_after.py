"""The wait that an endpoint asks for, in every form, also in senseless ones."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from nightmill_worker.messages.retry_after import retry_after_s

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "86400"}, 900.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW + 30)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, None),
        ({"retry-after": formatdate(NOW + 9e6, usegmt=True)}, 900.0),
        ({"retry-after": formatdate(NOW + 630), "date": formatdate(NOW + 600)}, 30.0),
        ({"retry-after": formatdate(NOW - 570), "date": formatdate(NOW - 600)}, 30.0),
        ({"retry-after": formatdate(NOW + 30), "date": "today"}, 30.0),
        ({"retry-after": "Mon, 99 Foo 2026 00:00:00 GMT"}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "-1", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "1e999", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "Mon, 01 Jan 9999 00:00:00 GMT"}, 900.0),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, None),
        ({"retry-after": "Mon, 01 Jan 2026 00:00:00 +99999999999999"}, None),
        ({"retry-after": "Mon, 01 Jan 2026 99:99:99 GMT"}, None),
        ({"retry-after": "x" * 100_000}, None),
        ({"retry-after": "\udce9\0"}, None),
        ({"retry-after": formatdate(NOW + 30), "date": "Mon, 01 Jan 0001 00:00:00 GMT"}, 900.0),
        ({"retry-after": formatdate(NOW + 30), "date": "Mon, 01 Jan 9999 00:00:00 GMT"}, None),
        ({"retry-after": formatdate(NOW + 30), "date": "\udcff"}, 30.0),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    """An unusable wait is none. A long one is bounded, so that one call is tried after it."""
    assert retry_after_s(headers, NOW) == expected
