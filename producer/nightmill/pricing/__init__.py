"""The cost of a call in US dollars, from its usage."""
