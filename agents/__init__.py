"""The zoo: agents on RLlib and without it behind one protocol, and hand-made baselines.

Importing this package imports neither Ray nor an agent; ``load_agent`` does that on demand.
"""

from .protocol import SearchSummary, SearchTask, Trial
from .registry import AGENTS, Agent, load_agent, register_agent

__all__ = ["AGENTS", "Agent", "SearchSummary", "SearchTask", "Trial", "load_agent", "register_agent"]
