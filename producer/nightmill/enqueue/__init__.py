"""Puts requests into the queue: preparing them, and feeding whole batches through a window."""
