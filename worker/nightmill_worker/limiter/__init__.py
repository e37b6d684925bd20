"""The limiter: one lane for each endpoint, credential and model. The whole fleet shares a lane.

`law` decides and does no I/O. `governor` runs the law. Slots and tokens are taken in
queue/lua/claim.lua and given back in queue/lua/settle.lua.
"""
