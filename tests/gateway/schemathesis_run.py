"""Runs schemathesis against a gateway with a worker and a simulated endpoint.

`python -m tests.gateway.schemathesis_run 200` tries 200 random requests for each operation.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.integration.shell import Shell, finish, simulated

SCHEMATHESIS: Final = Path(sys.executable).with_name("schemathesis")
EXCLUDED: Final = "positive_data_acceptance"
"""What fits a schema may be refused: by the endpoint, or since a custom_id is used twice."""


def tried(folder: Path, *, examples: int) -> subprocess.CompletedProcess[str]:
    """Try the routes of a gateway that runs in `folder`."""
    with simulated(folder) as endpoint:
        endpoint.configure(latency_s=0.01)
        shell = Shell(folder, base_url=endpoint.url, api_key="k", max_wait_s="20")
        key = shell("keys", "create", "fuzz").out.strip()
        with shell.started("serve", "--port", "0") as gateway, shell.started("worker") as worker:
            assert gateway.stdout is not None
            url = gateway.stdout.readline().split()[6]
            done = subprocess.run(
                [
                    *(SCHEMATHESIS, "run", f"{url}/openapi.json", "-H", f"x-api-key: {key}"),
                    *("--phases", "examples,coverage,fuzzing", "-n", str(examples)),
                    *("--exclude-checks", EXCLUDED, "--generation-database", "none"),
                    *("--seed", "18", "--no-color", "--suppress-health-check", "all"),
                ],
                cwd=folder,
                capture_output=True,
                check=False,
                text=True,
            )
            gateway.send_signal(signal.SIGTERM)
            assert "Traceback" not in finish(gateway, 0).err
            worker.send_signal(signal.SIGTERM)
            finish(worker, 0)
    return done


def main() -> int:
    """Try as many requests for each operation as the first argument says."""
    with tempfile.TemporaryDirectory() as folder:
        done = tried(Path(folder), examples=int(sys.argv[1]))
    sys.stdout.write(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
