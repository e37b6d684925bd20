"""The `nightmill` command: what belongs to the client here, the rest through entry points."""

from nightmill.cli.app import build, main

__all__ = ["build", "main"]
