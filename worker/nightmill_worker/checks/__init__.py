"""Checks of outputs: the schema of a batch, and functions of the operator in processes apart."""
