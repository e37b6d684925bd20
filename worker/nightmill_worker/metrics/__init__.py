"""What a worker process counts for Prometheus."""
