"""Everything that the client reads and writes in Redis: keys, payloads, batches, webhooks."""
