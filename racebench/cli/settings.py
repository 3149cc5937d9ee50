"""Settings: the values of options that the command line does not give, from the environment and a settings file.

The command line wins over the environment (RACEBENCH_RUN_WORKERS, then RACEBENCH_WORKERS), the environment over the
nearest settings file, the file over the default. Any option of any command can be set: its key is its long name.
Documented in docs/settings.md. Nothing here prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from racebench.cli import settings_file
from racebench.core.errors import UsageProblem, suggest
from racebench.core.passwords import masked
from racebench.core.plain_text import one_line, shortened

_PREFIX = "RACEBENCH_"

#: Variables that are not options.
OTHER_VARIABLES = frozenset({"RACEBENCH_CACHE_DIR", "RACEBENCH_COMPILED"})

#: The parameters that say what is run or explored: a scenario, or the user's own code with its setup and invariants.
_SERVICE = ("serve", "url", "listen", "headers", "ready", "expect_status", "reset", "restart", "instances")
_SUBJECT = ("scenario", "call", "programs", "requests", "setup", "invariant", *_SERVICE)
#: How the placeholder of an option ends whose value is a file or a folder.
_PLACES = ("PATH", "DIR")
_NUMERIC = ("number", "decimal", "integer", "float", "integer range", "float range")
_NAMED_TYPES = {
    bool: "a boolean", str: "a string", int: "a whole number", float: "a number", list: "an array", dict: "a table",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value for an option, not yet checked, and its source: a variable, or a file and a key.

    `folder` is the file's, None for a variable.
    """

    value: Any
    source: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the file and the environment set. `general` holds for every command that has the option.

    `warnings`: variables that set nothing, and old spellings of keys, one line each.
    """

    file: Path | None = None
    general: Mapping[str, Setting] = field(default_factory=dict)
    commands: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def of(self, command: str, option: str) -> Setting | None:
        """What is set for an option of a command ("run", "server reset")."""
        both = (self.commands.get(command, {}).get(option), self.general.get(option))
        candidates = [setting for setting in both if setting is not None]
        # A variable outranks a file, even if the file names the command; of two variables or keys, the command's wins.
        return next((setting for setting in candidates if setting.folder is None), next(iter(candidates), None))


def read(root: click.Command, *, start: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read what is set; raises UsageProblem for a file that cannot be read or a key that no command has."""
    found = settings_file.find(Path.cwd() if start is None else start)
    set_variables = _set_variables(os.environ if environment is None else environment)
    if found.path is None and not set_variables:  # as most often: which options there are need not be known
        return Settings(warnings=found.warnings)
    keys = {name: _keys(command) for name, command in leaves(root)}
    every_key = _merged(keys.values())
    file, prefix = found.path, found.prefix
    general: dict[str, Setting] = {}
    of_commands: dict[str, dict[str, Setting]] = {name: {} for name in keys}
    warnings = list(found.warnings)
    if file is not None:
        writing = _writing(root)
        for command, name, value in _entries(found.table, "", keys):
            source = f"{prefix}{'.'.join([*command.split(), name])}"
            known = keys.get(command, {}) if command else every_key
            if name not in known:
                above = f"{command} ".lstrip()
                below = {other.removeprefix(above).split()[0] for other in keys if other.startswith(above)}
                raise UsageProblem(f"{source}: there is no such setting{suggest(name, {*known.values()} | below)}")
            if found.foreign and known[name] in writing:
                warnings.append(
                    f"{source} is not used: the file is {found.foreign}'s, and this setting says where to write; "
                    "give it on the command line"
                )
                continue
            if known[name] != name:
                warnings.append(f"{source} is the old spelling of {known[name]}; write {known[name]}")
            setting = Setting(value=value, source=source, folder=file.parent)
            target = of_commands[command] if command else general
            if known[name] == name or known[name] not in target:  # the new spelling wins over the old one
                target[known[name]] = setting
    warnings += _environment(set_variables, keys, general, of_commands)
    return Settings(file=file, general=general, commands=of_commands, warnings=tuple(warnings))


def _writing(root: click.Command) -> frozenset[str]:
    """The keys of the settings that name a file or a folder: all but a scenario's folder are to be written."""
    return frozenset(
        key(parameter)
        for _, command in leaves(root)
        for parameter in settable(command)
        if (parameter.metavar or "").endswith(_PLACES)
    )


def _keys(command: click.Command) -> dict[str, str]:
    """The keys of a command's settings, each with its current spelling: an option's old long names are keys too."""
    keys = {}
    for parameter in settable(command):
        for name in getattr(parameter, "old", ()):
            if name.startswith("--"):
                keys[name[2:]] = key(parameter)
    return keys | {key(parameter): key(parameter) for parameter in settable(command)}


def _merged(all_keys: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The keys of all commands; a key that is current anywhere is not an old spelling."""
    merged: dict[str, str] = {}
    for keys in all_keys:
        merged |= {name: current for name, current in keys.items() if merged.get(name) != name}
    return merged


def leaves(command: click.Command, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is not a group, with its full name, in the order of their names."""
    if not isinstance(command, click.Group):
        yield before, command
        return
    for name, subcommand in sorted(command.commands.items()):
        yield from leaves(subcommand, f"{before} {name}".lstrip())


def settable(command: click.Command) -> list[click.Parameter]:
    """The parameters that settings can give: every option, and the scenario where it is an argument.

    Other commands are told on their command line what to work on: a schedule to replay, a strategy to show.
    """
    runs = any(isinstance(parameter, click.Argument) and parameter.name == "scenario" for parameter in command.params)
    fixed = () if runs else _SUBJECT
    return [
        parameter
        for parameter in command.params
        if parameter.name not in fixed
        and (isinstance(parameter, click.Option) or parameter.name == "scenario")
        and not parameter.is_eager
        and not getattr(parameter, "hidden", False)
    ]


def key(parameter: click.Parameter) -> str:
    """The name of a parameter's setting: the option's first long name; an argument's own."""
    return next((name[2:] for name in parameter.opts if name.startswith("--")), parameter.opts[0])


def variables(command: str, parameter: click.Parameter) -> tuple[str, str]:
    """The environment variables of a parameter: the command's own, then the one for all commands."""
    name = key(parameter)
    return _variable(f"{command} {name}"), _variable(name)


def fill(context: click.Context, settings: Settings) -> None:
    """Give the parameters that the command line does not give the values that are set for them.

    Raises UsageProblem, with the variable or the file and key, for a value that the option does not take.
    """
    name, superseded = command_name(context), _superseded(context)
    for parameter in settable(context.command):
        assert parameter.name is not None
        source_so_far = context.get_parameter_source(parameter.name)
        setting = settings.of(name, key(parameter))
        if setting is None or source_so_far is ParameterSource.COMMANDLINE or parameter.name in superseded:
            continue
        value = checked(context, parameter, setting)
        if parameter.expose_value:
            context.params[parameter.name] = value
        source = ParameterSource.ENVIRONMENT if setting.folder is None else ParameterSource.DEFAULT_MAP
        context.set_parameter_source(parameter.name, source)


def _superseded(context: click.Context) -> tuple[str, ...]:
    """The parameters not taken from settings, because the command line names something else to run or explore."""
    others = {
        "call": ("scenario", "programs", "requests", *_SERVICE),
        "programs": ("scenario", "call", "requests", *_SERVICE),
        "requests": ("scenario", "call", "programs"),
    }
    for name, superseded in others.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            return superseded
    if context.get_parameter_source("scenario") is ParameterSource.COMMANDLINE:
        is_sql = str(context.params["scenario"]).endswith(".sql")
        return ("call", "programs", "requests", *_SERVICE) if is_sql else _SUBJECT
    return ()


def command_name(context: click.Context) -> str:
    """The full name of the command being run, without the program's."""
    names: list[str] = []
    at: click.Context | None = context
    while at is not None and at.parent is not None:
        names.insert(0, str(at.info_name))
        at = at.parent
    return " ".join(names)


def checked(context: click.Context, parameter: click.Parameter, setting: Setting) -> Any:
    """A setting's value as the option has it; raises UsageProblem, with its source, if the option does not take it."""
    try:
        return parameter.process_value(context, _raw(parameter, setting))
    except click.ClickException as problem:
        raise UsageProblem(f"{setting.source}: {one_line(problem.format_message())}") from None
    except UsageProblem as problem:
        raise UsageProblem(f"{setting.source}: {problem}") from None


def _shown_dsn(value: str) -> str:
    from racebench.postgres.external import shown

    return shown(value) if value else value


def _variable(words: str) -> str:
    return _PREFIX + re.sub(r"[^A-Z0-9]", "_", words.upper())


def _entries(table: Mapping[str, Any], before: str, commands: Iterable[str]) -> Iterator[tuple[str, str, Any]]:
    """Each key with its command, "" for all. A table is a command's or a group's; everything else is a value."""
    for name, value in table.items():
        command = f"{before} {name}".lstrip()
        if isinstance(value, dict) and any(f"{known} ".startswith(f"{command} ") for known in commands):
            yield from _entries(value, command, commands)
        else:
            yield before, name, value


def _set_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that are to set an option; an empty one is as one that is not there."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and name not in OTHER_VARIABLES and value
    }


def _environment(
    environment: Mapping[str, str],
    keys: Mapping[str, Mapping[str, str]],
    general: dict[str, Setting],
    of_commands: dict[str, dict[str, Setting]],
) -> list[str]:
    """Put what the environment sets over what the file sets; the warnings about variables, one line each."""
    meaning: dict[str, tuple[str, str, str]] = {}
    for name, current in _merged(keys.values()).items():
        meaning[_variable(name)] = ("", name, current)
    for command, names in keys.items():
        for name, current in names.items():
            meaning.setdefault(_variable(f"{command} {name}"), (command, name, current))

    def is_old(variable: str) -> bool:
        """Whether a variable is an old spelling. Those come first, so that the new one wins."""
        _, name, current = meaning.get(variable, ("", "", ""))
        return name != current

    warnings = []
    for variable, value in sorted(environment.items(), key=lambda entry: (not is_old(entry[0]), entry[0])):
        if variable not in meaning:
            warnings.append(f"{variable} sets nothing{_close(variable, [*meaning, *OTHER_VARIABLES])}")
            continue
        command, name, current = meaning[variable]
        if name != current:
            new = variable.removesuffix(_variable(name).removeprefix(_PREFIX)) + _variable(current).removeprefix(
                _PREFIX
            )
            warnings.append(f"{variable} is the old spelling of {new}; set {new}")
        setting = Setting(value=value, source=variable)
        (of_commands[command] if command else general)[current] = setting
    return warnings


def _close(variable: str, known: Sequence[str]) -> str:
    """The suggestion for a variable, if a name is very close; the prefix, which all share, is not compared."""
    import difflib

    names = sorted(name.removeprefix(_PREFIX) for name in known)
    close = difflib.get_close_matches(variable.removeprefix(_PREFIX), names, n=1, cutoff=0.8)
    return f"; did you mean '{_PREFIX}{close[0]}'?" if close else ""


def _raw(parameter: click.Parameter, setting: Setting) -> Any:
    """A setting's value as text from a command line; UsageProblem for a TOML value of another type."""
    many = isinstance(parameter, click.Option) and parameter.multiple
    if setting.folder is None:
        return [line.strip() for line in setting.value.splitlines() if line.strip()] if many else setting.value
    parts = setting.value if many and isinstance(setting.value, list) else [setting.value]
    values = [_anchored(parameter, _scalar(parameter, part), setting.folder) for part in parts]
    return values if many else values[0]


def _anchored(parameter: click.Parameter, value: Any, folder: Path) -> Any:
    """Make a path in a file, which is relative to the file's folder, relative to the current one; other values stay."""
    metavar = parameter.metavar or ""
    if parameter.name == "scenario":
        named = not ("/" in value or value.startswith(".") or value.endswith((".sql", ".spec")))
        return value if named else f"./{os.path.relpath(folder / value)}"
    if metavar == "SQL" and value.endswith(".sql"):
        return os.path.relpath(folder / value)
    if not isinstance(value, str) or not metavar.endswith(_PLACES):
        return value
    before, equals, path = value.partition("=") if "=" in metavar else ("", "", value)
    return value if path in ("", "-") else f"{before}{equals}{os.path.relpath(folder / path)}"


def _scalar(parameter: click.Parameter, value: Any) -> Any:
    name = max(parameter.opts, key=len)
    if isinstance(parameter, click.Option) and parameter.is_flag:
        if not isinstance(value, bool):
            raise UsageProblem(f"{name} is true or false, not {_kind(value)}")
        return value
    numeric = parameter.type.name in _NUMERIC
    choice = isinstance(parameter.type, click.Choice)
    right = isinstance(value, str) if not numeric else isinstance(value, int | float)
    if (choice or parameter.type.name in ("percentage", "limit")) and isinstance(value, int | float):
        right = True  # server = 18, fail-slower = 20 (or "20%"), budget = 2.5 (or "unlimited")
    if isinstance(value, bool) or not right:
        raise UsageProblem(f"{name} is {'a number' if numeric else 'a string'}, not {_kind(value)}")
    if "\0" in str(value):
        raise UsageProblem(f"{name} has a NUL character; remove it")
    return str(value)  # as on a command line, so that 2.5 is no whole number


def _kind(value: Any) -> str:
    """A TOML value in a message: its type, and itself where it is short."""
    kind = next((name for type_, name in _NAMED_TYPES.items() if isinstance(value, type_)), type(value).__name__)
    if isinstance(value, list | dict):
        return kind
    return f"{kind} ({str(value).lower() if isinstance(value, bool) else shortened(masked(str(value)), 80)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveOption:
    """The value of an option of a command, as text, and its source. `is_set` is false for a default."""

    command: str
    option: str
    value: str
    source: str
    is_set: bool


def effective(root: click.Command, settings: Settings, only: str = "") -> list[EffectiveOption]:
    """The value of every option of every command, or of one; raises UsageProblem for an unknown command.

    Passwords are masked.
    """
    commands = dict(leaves(root))
    chosen = {name: command for name, command in commands.items() if not only or f"{name} ".startswith(f"{only} ")}
    if not chosen:
        raise UsageProblem(f"command '{only}' not found{suggest(only, commands)}")
    options = []
    for name, command in chosen.items():
        context = click.Context(command, info_name=name)
        for parameter in settable(command):
            setting = settings.of(name, key(parameter))
            if setting is not None:
                checked(context, parameter, setting)
            value = parameter.get_default(context) if setting is None else setting.value
            options.append(
                EffectiveOption(
                    command=name,
                    option=key(parameter),
                    value=_shown_dsn(_shown(value))
                    if parameter.name in ("dsn", "consumer_dsn")
                    else masked(_shown(value)),
                    source="default" if setting is None else setting.source,
                    is_set=setting is not None,
                )
            )
    return options


def _shown(value: Any) -> str:
    """A value as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and value and all(isinstance(part, float) for part in value):
        return ":".join(f"{part:g}" for part in value)
    if isinstance(value, list | tuple):
        return ", ".join(_shown(part) for part in value)
    return str(value) if isinstance(value, str | int | float) else ""
