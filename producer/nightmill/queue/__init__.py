"""What the client reads and writes in Redis: keys, wire format, batches, webhooks."""
