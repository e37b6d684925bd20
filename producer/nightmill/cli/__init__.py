"""The `nightmill` command. The client's commands are here; others come through entry points."""

from nightmill.cli.app import build, main

__all__ = ["build", "main"]
