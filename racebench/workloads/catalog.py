"""The catalog: the shipped scenarios, and finding scenarios, strategies and consumers by name or folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from racebench.core.errors import UsageProblem, suggest
from racebench.core.model import Consumer, Scenario, Strategy
from racebench.workloads.manifest import MANIFEST, read_scenario

DEFAULT_SCENARIO = "version-counter"


def shipped_folder() -> Path:
    """The folder of shipped scenarios: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "scenarios"
    return installed if installed.is_dir() else package.parent / "scenarios"


def shipped() -> list[Scenario]:
    """The shipped scenarios, by name."""
    return [read_scenario(manifest.parent) for manifest in sorted(shipped_folder().glob(f"*/{MANIFEST}"))]


def listed() -> list[Scenario]:
    """The shipped scenarios, by name, to be listed: their scripts are not parsed."""
    return [read_scenario(manifest.parent, parsed=False) for manifest in sorted(shipped_folder().glob(f"*/{MANIFEST}"))]


def find_scenario(name: str | None, *, parsed: bool = True) -> Scenario:
    """Return the scenario of that shipped name or folder; the default one for None.

    If not `parsed`, the scripts of a shipped one have no steps: to show it, their text need not be understood.
    Raises UsageProblem for an unknown name, ScenarioProblem for a malformed folder.
    """
    name = name or DEFAULT_SCENARIO
    if "/" in name or name.startswith("."):
        folder = Path(name)
        if not folder.is_dir():
            raise UsageProblem(f"scenario folder '{name}' does not exist")
        return replace(read_scenario(folder), options=("--scenario", name))
    folder = shipped_folder() / name
    if (folder / MANIFEST).is_file():
        return read_scenario(folder, parsed=parsed)
    if (Path(name) / MANIFEST).is_file():
        return read_scenario(Path(name))
    known = [manifest.parent.name for manifest in shipped_folder().glob(f"*/{MANIFEST}")]
    raise UsageProblem(f"scenario '{name}' not found{suggest(name, known)} (or give a folder, for example ./{name})")


def is_scenario(name: str) -> bool:
    """Whether a name is that of a shipped scenario, or of a folder with a scenario in it."""
    return (shipped_folder() / name / MANIFEST).is_file() or (Path(name) / MANIFEST).is_file()


def find_strategy(scenario: Scenario, name: str) -> Strategy:
    """Return the scenario's strategy of that name, or raise UsageProblem with a suggestion."""
    try:
        return scenario.strategies[name]
    except KeyError:
        raise UsageProblem(
            f"strategy '{name}' not found in {scenario.name}{suggest(name, scenario.strategies)}"
        ) from None


GROUPS: Mapping[str, Callable[[Strategy], bool]] = {
    "all": lambda _strategy: True,
    "correct": lambda strategy: strategy.right,
    "broken": lambda strategy: not strategy.right,
}


def find_strategies(scenario: Scenario, names: Sequence[str]) -> tuple[Strategy, ...]:
    """The strategies of some names or groups (all, correct, broken), each once, in the order of the names."""
    strategies: dict[str, Strategy] = {}
    for name in names:
        if name in GROUPS:
            strategies |= {s.name: s for s in scenario.strategies.values() if GROUPS[name](s)}
        else:
            strategies[name] = find_strategy(scenario, name)
    return tuple(strategies.values())


def find_consumers(scenario: Scenario, names: Sequence[str]) -> tuple[Consumer, ...]:
    """The consumers of some names, each once, in the order of the names; every one for 'all', none for 'none'."""
    if "none" in names:
        return ()
    if "all" in names:
        return tuple(scenario.consumers.values())
    return tuple(find_consumer(scenario, name) for name in dict.fromkeys(names))


def default_consumers(scenario: Scenario) -> list[str]:
    """The consumers that run under load unless others are named: `cursor`, else the first, if there is any."""
    return ["cursor"] if "cursor" in scenario.consumers else list(scenario.consumers)[:1]


def find_consumer(scenario: Scenario, name: str) -> Consumer:
    """Return the scenario's consumer of that name, or raise UsageProblem with a suggestion."""
    try:
        return scenario.consumers[name]
    except KeyError:
        raise UsageProblem(
            f"consumer '{name}' not found in {scenario.name}{suggest(name, scenario.consumers)}"
        ) from None
