"""The pages of batches: all of them, one, and what may be done with them."""
