"""The commands of a group, each imported when it is asked for: a command does without the options of all others."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, MutableMapping

import click


class LateCommands(MutableMapping[str, click.Command]):
    """Commands by name. The command NAME is in the module NAME of `package`."""

    def __init__(self, package: str, names: Iterable[str]) -> None:
        self._package = package
        self._commands: dict[str, click.Command | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> click.Command:
        command = self._commands[name]
        if command is None:
            module = importlib.import_module(f"{self._package}.{name}")
            commands = (value for value in vars(module).values() if isinstance(value, click.Command))
            command = self._commands[name] = next(command for command in commands if command.name == name)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)

    def __contains__(self, name: object) -> bool:
        return name in self._commands
