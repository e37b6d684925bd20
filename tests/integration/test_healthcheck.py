"""`--healthcheck` of a worker and of a gateway, as a container runs it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from nightmill_worker.machine.pulse import FOLDER
from tests.integration.shell import Shell, finish, until
from tests.redis_servers import free_port


def healthy(shell: Shell) -> bool:
    """Return whether the check of the workers passes."""
    return shell("worker", "--healthcheck").code == 0


def test_a_worker_is_checked_by_its_event_loops(shell: Shell) -> None:
    """No worker, a worker, one that hangs, one that goes on, one that was stopped."""
    none = shell("worker", "--healthcheck")
    assert (none.code, none.out) == (1, "")
    assert none.err.startswith("unhealthy: no `nightmill worker` runs here with DATA_DIR")
    with shell.started("worker", "--processes", "2") as worker:
        folder = shell.data / FOLDER
        until(lambda: folder.is_dir() and len(list(folder.glob("worker-*"))) == 2)
        until(lambda: healthy(shell))
        hangs = next(folder.glob("worker-*"))
        pid = int(hangs.name.partition("@")[0].removeprefix("worker-"))
        os.kill(pid, signal.SIGSTOP)
        past = time.time() - 60
        os.utime(hangs, (past, past))
        found = shell("worker", "--healthcheck")
        os.kill(pid, signal.SIGCONT)
        assert found.code == 1
        assert f"unhealthy: worker process {pid} hangs: no sign of life for 6" in found.err
        until(lambda: healthy(shell))
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    assert shell("worker", "--healthcheck").code == 1
    assert list(folder.iterdir()) == []


def test_the_check_loads_no_settings(shell: Shell, tmp_path: Path) -> None:
    """It runs every few seconds: it reads DATA_DIR alone, wherever that is set."""
    (tmp_path / "nightmill.toml").write_text('data_dir = "elsewhere"\nmodel = "m"\n')
    assert "DATA_DIR elsewhere" in shell("worker", "--healthcheck").err
    code = "import sys; sys.argv = ['nightmill', 'worker', '--healthcheck']\n"
    code += "from nightmill.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "heavy = ('sqlalchemy', 'aiohttp', 'arq', 'redis', 'nightmill.settings')\n"
    code += "print([name for name in heavy if name in sys.modules])"
    assert shell.python(code).strip() == "[]"


def test_a_gateway_is_asked_for_its_health(shell: Shell) -> None:
    """The image has no curl."""
    port = str(free_port())
    shell.export(redis_url="")
    missing = shell("serve", "--healthcheck", "--host", "0.0.0.0", "--port", port)  # noqa: S104
    assert missing.code == 1
    assert missing.err.startswith(f"unhealthy: no gateway answers at 127.0.0.1 port {port}: ")
    with shell.started("serve", "--insecure", "--port", port) as process:
        until(lambda: shell("serve", "--healthcheck", "--port", port).code == 0)
        assert shell("serve", "--healthcheck", "--port", port).out == "healthy\n"
        process.send_signal(signal.SIGTERM)
        finish(process, 0)
