"""Carries decisions out: settles slots and tokens, commits rows, finishes jobs."""
