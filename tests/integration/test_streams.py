"""A stream that pauses, and a person who has waited long enough."""

from __future__ import annotations

import signal
import subprocess

from tests.integration.shell import Shell, finish, until


def test_what_is_there_goes_in_while_a_stream_pauses(shell: Shell) -> None:
    """Lines must not wait for others that may come tomorrow."""
    with shell.started("enqueue", "-", "--batch", "live", stdin=subprocess.PIPE) as feeding:
        assert feeding.stdin is not None
        feeding.stdin.write('{"prompt": "one"}\n{"prompt": "two"}\n')
        feeding.stdin.flush()
        until(lambda: shell.queued("live") == 2)
        assert shell.status("live")["state"] == "feeding"
        feeding.stdin.write('{"prompt": "three"}\n')
        feeding.stdin.close()
        feeding.stdin = None
        assert finish(feeding, 0).out == 'fed 3 jobs as batch "live": 3 new\n'
    assert shell.status("live")["total"] == 3


def test_ctrl_c_ends_a_stream_that_pauses(shell: Shell) -> None:
    """What went in stays; a read that blocks holds nobody up."""
    with shell.started("enqueue", "-", "--batch", "live", stdin=subprocess.PIPE) as feeding:
        assert feeding.stdin is not None
        feeding.stdin.write('{"prompt": "one"}\n')
        feeding.stdin.flush()
        until(lambda: shell.queued("live") == 1)
        feeding.send_signal(signal.SIGINT)
        err = finish(feeding, 130).err
    assert "Fatal" not in err
    assert shell.status("live")["queued"] == 1
