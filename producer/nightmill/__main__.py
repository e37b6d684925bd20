"""`python -m nightmill` is the `nightmill` command."""

from nightmill.cli import main

main()
