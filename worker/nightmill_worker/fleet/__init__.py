"""The worker of a fleet and the loops that run beside its claims."""
