"""Message Batches: created in one stream, fed through the window, read back as the API has them."""
