"""What runs now, read once for all tabs; and the stream that tells tabs that it changed."""
