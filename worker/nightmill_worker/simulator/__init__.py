"""A stand-in for the Messages endpoint, to rehearse a night's run without paying for it.

It keeps the contract of `POST /v1/messages` (validation, errors, rate-limit headers, SSE) over true
token buckets, answers deterministically, breaks on request, and counts every call per prompt.
"""

from nightmill_worker.simulator.config import ConfigError, Fault, SimulatorConfig
from nightmill_worker.simulator.server import Simulator, serve

__all__ = ["ConfigError", "Fault", "Simulator", "SimulatorConfig", "serve"]
