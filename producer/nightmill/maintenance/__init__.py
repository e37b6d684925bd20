"""Commands on batches that exist: requeue, prune, verify, cancel."""
