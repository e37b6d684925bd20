"""Characters that would control a terminal, shown as text."""

from __future__ import annotations

import json

import pytest

from nightmill.safety.visible import visible, visible_json

ODD = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b[2Jgone": r"\x1b[2Jgone",
    "\x9b31m": r"\x9b31m",
    "over\rwritten": r"over\x0dwritten",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\u2066a\u2069": r"\u2066a\u2069",
    "half\ud800": r"half\ud800",
    "\x7f\0": r"\x7f\x00",
}


@pytest.mark.parametrize("text", ODD)
def test_what_controls_a_terminal_is_shown_as_text(text: str) -> None:
    """An answer could change the title or the clipboard, or hide the line above."""
    assert visible(text) == ODD[text]


def test_ordinary_text_stays_as_it_is() -> None:
    """Tabs, newlines, right-to-left scripts and emoji are text."""
    text = "a\tb\n\u05e9\u05dc é \U0001f469\u200d\U0001f4bb \\x1b"
    assert visible(text) == text


@pytest.mark.parametrize("text", ODD)
def test_json_stays_the_same_value(text: str) -> None:
    """A program reads it."""
    shown = visible_json(json.dumps(text, ensure_ascii=False) + "\r\n")
    assert json.loads(shown) == text
    assert not set(shown) & set("\x1b\x9b\x7f\u202e\u2066\ud800")
