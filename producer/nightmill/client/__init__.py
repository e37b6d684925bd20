"""The Python clients: Producer, Batch, their plain twins, and reading stored results."""
