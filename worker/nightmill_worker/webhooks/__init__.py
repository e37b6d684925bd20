"""Delivers the webhooks of finished batches."""
