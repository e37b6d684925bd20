"""Settings that are tables: the file of own prices, the models that share a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill.errors import SettingsError
from nightmill.setting_tables import DEFAULT_GROUPS, read_groups, read_prices
from nightmill.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1", r'x: 1 is no table; write one table a model, such as \["claude-\*"\]'),
        ('["m"]', r'\["m"\]: it is empty; add input and output, or discount_percent'),
        ('["m"]\ninput = 1', r'\["m"\]: input is given alone; add both input and output'),
        ('["m"]\nweb_search = 1', r"web_search is given alone; add both input and output"),
        ('["m"]\ninput = "1"', r'\["m"\] input: .1. given; allowed: 0 to 1,000,000 US dollars'),
        ('["m"]\ninput = -1\noutput = 1', r"input: -1 given; allowed: 0 to 1,000,000 US dollars"),
        ('["m"]\ninput = nan\noutput = 1', r"input: nan given; allowed: 0 to"),
        ('["m"]\ninput = true', r"input: True given; allowed"),
        ('["m"]\ndiscount_percent = 101', r"discount_percent: 101 given; allowed: 0 to 100 percen"),
        ('["m"]\ninputs = 1', r"inputs: no such field; allowed: input, output, cache_read, cache_"),
        ('["m"]\ninput = 1\noutput = 1\ndiscount_percent = 5', "both given; give the reduced pric"),
        ("[m-4.6]\ninput = 1", r'"m-4"\] 6: a table in a table; put quotes .* as \["m-4.6"\]'),
        ('["m"\n', "the price file is not TOML: .*; write one table a model"),
    ],
)
def test_a_wrong_price_file_is_refused_when_settings_are_loaded(
    tmp_path: Path, text: str, problem: str
) -> None:
    """The error names the entry, the field, what is given and what is allowed."""
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"NIGHTMILL_PRICES: .*{problem}"):
        load_settings(prices=str(file))


def test_a_price_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Bad input never gets a traceback."""
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory; name a"):
        load_settings(prices=str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(prices=str(tmp_path))


def test_a_price_file_of_an_editor_that_writes_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """It was "not TOML: invalid statement at line 1, column 1", where nothing can be seen."""
    file = tmp_path / "prices.toml"
    file.write_bytes(b'\xef\xbb\xbf["m"]\ninput = 1\noutput = 2\n')
    assert read_prices(str(file))["m"].output == 2


def test_models_that_share_a_limit_are_groups_of_a_table() -> None:
    """The public table is the default; own groups come first, and `none` means no groups."""
    assert ("claude-opus-4.x", "claude-opus-4-", 1) in read_groups(None)
    assert read_groups("none") == ()
    own = (("house", "llama-", 1), ("house", "qwen", 0), ("alone", "claude-opus-4-1", 0))
    text = "house=llama-*, qwen; alone=claude-opus-4-1"
    assert read_groups(text) == (*own, *DEFAULT_GROUPS)
    as_json = '{"house": ["llama-*", "qwen"], "alone": ["claude-opus-4-1"]}'
    assert read_groups(as_json) == (*own, *DEFAULT_GROUPS)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("claude-*", "'claude-\\*' names no models: write GROUP=MODEL,MODEL-\\*; GROUP="),
        ("a=", "'a=' names no models"),
        ("=m", "'' is no group's name: 1 to 100 printable characters"),
        ("a=m*x", "a: 'm\\*x' is no model: give its name, or its start and a final \\*"),
        ("a=*", r"a: '\*' is no model"),
        ("opus fast=m", "'opus fast' is no group's name: .*not ' fast' at the end"),
        ('{"a": "m"}', "not a JSON object of lists of models"),
    ],
)
def test_wrong_groups_are_refused_when_settings_are_loaded(given: str, problem: str) -> None:
    """The error names the entry and what is allowed."""
    with pytest.raises(SettingsError, match=f"NIGHTMILL_LIMIT_GROUPS: .*{problem}"):
        load_settings(limit_groups=given)
