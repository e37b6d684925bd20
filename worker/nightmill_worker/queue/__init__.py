"""The Lua scripts of the worker, as typed calls."""
