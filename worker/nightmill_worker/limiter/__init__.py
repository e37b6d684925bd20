"""The limiter: one lane per endpoint, credential and model, shared by the whole fleet.

`law` decides (pure), `governor` runs it; the buckets and slots themselves are taken in
lua/claim.lua and given back in lua/settle.lua.
"""
