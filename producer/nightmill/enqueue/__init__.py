"""From requests to queued jobs: prepared, fed through a window, one feeder a batch."""
