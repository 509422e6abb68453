"""The registry of agents: name -> its module, or the agent itself.

An agent is a module with the settings class ``Settings`` and the function ``search`` (see ``protocol.Search``), and a file of tuned
settings ``tuned/<name>.toml`` beside it. Modules of this folder are agents if they say ``AGENT = "<name>"``; they are read for that and
not imported, since some of them import Ray. Agents from elsewhere are added with ``register_agent``.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from qumos_env.errors import QumosError, unknown

from .protocol import Search
from .settings import AgentSettings, parse_settings, tuned_settings

_EXTRAS = {"ray": "rllib", "torch": "rllib", "optuna": "optuna", "pymoo": "pymoo"}
"""The extra of the package that brings a library."""


@dataclass(frozen=True)
class Agent:
    """An agent.

    Attributes:
        name: in the registry.
        settings: the class of its settings.
        search: what runs it.
        tuned: the file of its tuned settings; where there is none, the defaults of ``settings`` hold.
    """

    name: str
    settings: type[AgentSettings]
    search: Search
    tuned: Path | None = None

    def settings_for(self, scenario: str, overrides: Mapping[str, object] | None = None) -> AgentSettings:
        """The settings tuned for the scenario of that name, with ``overrides`` on top.

        Raises:
            QumosError: an unknown setting, or a value of the wrong type or outside its range.
        """
        tuned = tuned_settings(self.tuned, scenario) if self.tuned else {}
        return parse_settings(self.settings, {**tuned, **(overrides or {})}, f"the settings of {self.name}")


AGENTS: dict[str, str | ModuleType | Agent] = {}
"""Every agent: itself, its module, or the name of its module."""


def register_agent(name: str, agent: str | ModuleType | Agent) -> None:
    """Registers ``agent`` under ``name``; harmless when repeated.

    Raises:
        QumosError: the name belongs to another agent.
    """
    if AGENTS.setdefault(name, agent) != agent:
        raise QumosError(f"agent {name}: the name is taken, choose another")


def load_agent(name: str) -> Agent:
    """The agent called ``name``.

    Raises:
        QumosError: no such agent (the nearest names are offered), or its packages are not installed.
    """
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    found = AGENTS[name]
    if isinstance(found, Agent):
        return found
    try:
        module = importlib.import_module(found) if isinstance(found, str) else found
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is not None:
            raise QumosError(f"agent {name} needs {error.name}, which is not installed: pip install 'qumos-env[{extra}]'") from error
        raise
    tuned = Path(str(module.__file__)).parent / "tuned" / f"{name}.toml"
    return Agent(name, module.Settings, module.search, tuned)


def declared(folder: Path, package: str) -> Iterator[tuple[str, str]]:
    """Name and module of every agent in ``folder``, which holds the modules of ``package``."""
    for path in sorted(folder.glob("*.py")):
        for statement in ast.parse(path.read_bytes()).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="AGENT")], value=ast.Constant(value=str(name))):
                    yield name, f"{package}.{path.stem}"


for _name, _module in declared(Path(__file__).resolve().parent, str(__package__)):
    register_agent(_name, _module)
