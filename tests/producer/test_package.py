"""The package's face: every public name is there, and none is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nightmill


@pytest.mark.parametrize("name", nightmill.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """They are fetched by name, so a wrong one would only be found by its user."""
    assert getattr(nightmill, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Consumer'"):
        _ = nightmill.Consumer  # type: ignore[attr-defined]


def test_an_error_can_be_caught_without_loading_a_client() -> None:
    """The lightest names come first."""
    script = "import sys, nightmill; nightmill.JobState, nightmill.NightmillError; "
    told = "sys.exit('redis' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script + told], check=False).returncode == 0
