"""An input stream that pauses, and a user who presses Ctrl-C."""

from __future__ import annotations

import signal
import subprocess

from tests.integration.shell import Shell, finish, until


def test_lines_are_enqueued_while_the_stream_pauses(shell: Shell) -> None:
    """A line must not wait for the next one, which may come tomorrow."""
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
    """Enqueued lines stay, and a blocked read does not delay the exit."""
    with shell.started("enqueue", "-", "--batch", "live", stdin=subprocess.PIPE) as feeding:
        assert feeding.stdin is not None
        feeding.stdin.write('{"prompt": "one"}\n')
        feeding.stdin.flush()
        until(lambda: shell.queued("live") == 1)
        feeding.send_signal(signal.SIGINT)
        err = finish(feeding, 130).err
    assert "Fatal" not in err
    assert shell.status("live")["queued"] == 1
