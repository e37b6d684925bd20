"""From the usage of a call to its cost in dollars."""
