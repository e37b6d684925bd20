"""The Python clients: Producer, SyncProducer, Batch, and reading stored results."""
