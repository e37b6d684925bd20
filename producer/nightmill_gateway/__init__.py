"""The HTTP door of nightmill: the Messages API over its queue, limiter and results store.

It imports the client, `nightmill`, and never the worker. Needs the `gateway` extra.
"""
