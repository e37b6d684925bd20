"""Brings the Message Batches of the gateway to their ends, in gateways and in workers."""
