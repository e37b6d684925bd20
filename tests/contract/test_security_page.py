"""The security page: each promise names tests, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "promise |" not in line]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_every_promise_names_a_test() -> None:
    """A promise without one is a hope."""
    assert len(ROWS) >= 20
    for row in ROWS:
        promise, shown_by = row[1:-1].split(" | ")
        assert promise.strip()
        assert re.fullmatch(r"(`tests/[\w/]+\.py::\w+`(, )?)+", shown_by.strip()), row


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_test_of_a_promise_exists(path: str, name: str) -> None:
    """A test that was renamed or removed shows nothing."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def test_the_page_is_found() -> None:
    """From the site's menu, and from where GitHub sends those who look for it."""
    assert "security.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
