"""Bad webhook URLs and secrets are refused when they are given."""

from __future__ import annotations

import pytest

from nightmill import load_settings
from nightmill.errors import SettingsError
from nightmill.queue.webhooks import require_url


@pytest.mark.parametrize(
    "url", ["", "ftp://a/b", "http://", "http://a:b/", "http://u:p@a/", "http://a b/", "a.b/c"]
)
def test_a_bad_url_is_refused_when_it_is_given(url: str) -> None:
    """Otherwise it would fail a day later, in a worker's log."""
    with pytest.raises(SettingsError, match="on-complete"):
        require_url(url)


@pytest.mark.parametrize(
    "secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_%"]
)
def test_a_bad_secret_is_refused_and_not_shown(secret: str) -> None:
    """A rejected secret may be a real one with a typing error."""
    with pytest.raises(SettingsError, match="NIGHTMILL_WEBHOOK_SECRET: not whsec_") as caught:
        load_settings(webhook_secret=secret)
    assert secret not in str(caught.value)
