"""The options that say which answers are results: refused before anything is paid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.cli.accept_options import AcceptOptions, require_check
from nightmill.errors import InvalidAcceptanceError, SchemaError, SettingsError
from nightmill.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_options_become_the_keywords_of_accept(tmp_path: Path) -> None:
    """What is not given stays as the batch has it."""
    assert AcceptOptions().accepted() == {}
    path = tmp_path / "s.json"
    path.write_bytes(b'\xef\xbb\xbf{"type": "object"}')
    options = AcceptOptions(
        schema=path, schema_tool="tag", check="c", check_retries=0, check_reask="same"
    )
    assert options.accepted() == {
        "schema": {"type": "object"},
        "schema_tool": "tag",
        "check": "c",
        "check_retries": 0,
        "check_reask": "same",
    }


def test_options_for_stop_reasons_become_keywords() -> None:
    """A third of a data set was cut, and nothing could be said about it before the run."""
    options = AcceptOptions(
        on_truncated="grow", max_tokens_ceiling=8192, on_pause="keep", on_refusal="model:m"
    )
    assert options.accepted() == {
        "on_truncated": "grow",
        "max_tokens_ceiling": 8192,
        "on_pause": "keep",
        "on_refusal": "model:m",
    }
    with pytest.raises(InvalidAcceptanceError, match="max_tokens_ceiling: missing; on_truncated"):
        AcceptOptions(on_truncated="grow").accepted()
    with pytest.raises(InvalidAcceptanceError, match="on_refusal: given 'other'; allowed: keep, f"):
        AcceptOptions(on_refusal="other").accepted()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("{", "not JSON"),
        ("[]", r"given \[\]; allowed: a JSON object"),
        (json.dumps({"type": "objekt"}), r'\$.type: "objekt" is not'),
        (json.dumps({"$ref": "https://example.com/s.json"}), "a place in the same schema"),
        (json.dumps({"$ref": "/etc/passwd"}), "a place in the same schema"),
        (json.dumps({"pattern": "(?<=a)b"}), "without look-around"),
        (json.dumps({"enum": ["x" * 300_000]}), "bytes; allowed"),
    ],
)
def test_a_bad_schema_is_refused_with_file_place_and_fix(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    """It was noticed when the first answers had been paid for."""
    path = tmp_path / "s.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SchemaError, match=problem) as raised:
        AcceptOptions(schema=path).accepted()
    assert f"--schema {path}: " in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"structured": True}, {"schema_tool": "x"}, {"check": "x" * 600}, {"check": ""}]
)
def test_options_that_need_another_are_refused(options: dict[str, Any]) -> None:
    """They had no effect, silently."""
    with pytest.raises((SettingsError, InvalidAcceptanceError)):
        AcceptOptions(**options).accepted()


def test_a_run_has_the_check_that_it_names() -> None:
    """Its workers would fail every job."""
    settings = load_settings(checks="short=operator:short")
    require_check({"check": "short"}, settings)
    require_check({}, settings)
    with pytest.raises(SettingsError, match="NIGHTMILL_CHECKS has: short; add other=module"):
        require_check({"check": "other"}, settings)
