"""Run the simulator on its own: `python -m nightmill_worker.simulator --help`."""

import typer

from nightmill_worker.simulator.command import simulate

if __name__ == "__main__":
    typer.run(simulate)
