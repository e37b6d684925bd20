"""What Prometheus reads: the server of /metrics, and the figures of the whole fleet."""
