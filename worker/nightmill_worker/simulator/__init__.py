"""A simulated Messages endpoint: rehearse a run without paying for it.

It follows the contract of `POST /v1/messages`: validation, errors, rate-limit headers, SSE. Its
limits are real token buckets. The same prompt always gets the same answer. Faults are switched on
by the config. Every call is counted per prompt.
"""

from nightmill_worker.simulator.config import ConfigError, Fault, SimulatorConfig
from nightmill_worker.simulator.server import Simulator, serve

__all__ = ["ConfigError", "Fault", "Simulator", "SimulatorConfig", "serve"]
