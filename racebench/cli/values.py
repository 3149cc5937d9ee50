"""Types of option values: each checks a value, and names the option, the value and what it takes if it is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from racebench.cli.streams import say
from racebench.core.errors import UsageProblem, suggest


class ReportFile(NamedTuple):
    """Where to write results to, and in which format. `path` is None for stdout."""

    format: str
    path: Path | None


if TYPE_CHECKING:
    _Number = click.ParamType[float]
    _Pair = click.ParamType[tuple[float, float]]
    _Report = click.ParamType[ReportFile]
else:
    _Number = _Pair = _Report = click.ParamType  # generic only in newer clicks

#: A minute in milliseconds: the longest delay.
MINUTE_MS = 60_000


class Number(_Number):
    """A number in a range, with a message that names the option, the value and the range."""

    def __init__(self, low: float, high: float, *, whole: bool = True, above: bool = False) -> None:
        self.low, self.high, self.whole, self.above = low, high, whole, above
        self.name = "number" if whole else "decimal"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return "N" if self.whole else "X"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> float:
        try:
            number: float = int(value) if self.whole else float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if not (self.low < number if self.above else self.low <= number) or not number <= self.high:
            kind = "a whole number" if self.whole else "a number"
            least = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            raise UsageProblem(f"{option_name(param)} is {kind} {least} to {self.high:g}, not '{value}'")
        return number


class Limit(Number):
    """A limit above 0, or 'unlimited', which is infinity."""

    def __init__(self, high: float) -> None:
        super().__init__(0, high, whole=False, above=True)
        self.name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if str(value).strip() == "unlimited":
            return math.inf
        try:
            return super().convert(value, param, ctx)
        except UsageProblem as problem:
            raise UsageProblem(str(problem).replace(", not ", ", or 'unlimited', not ", 1)) from None


class Percent(Number):
    """PERCENT, with or without its sign: 20% or 20."""

    def __init__(self) -> None:
        super().__init__(0, 99, whole=False)
        self.name = "percentage"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().removesuffix("%").rstrip()
        try:
            return super().convert(text, param, ctx)
        except UsageProblem:
            raise UsageProblem(
                f"{option_name(param)} is a percentage from 0 to 99, such as 20%, not '{value}'"
            ) from None


class PercentAndMs(_Pair):
    """PERCENT:MS, such as 5:200."""

    name = "percent:ms"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        percent, _, ms = str(value).partition(":")
        try:
            pair = float(percent), float(ms)
        except ValueError:
            pair = (-1.0, -1.0)
        if not (0 <= pair[0] <= 100 and 0 <= pair[1] <= MINUTE_MS):
            raise UsageProblem(f"{option_name(param)} is PERCENT:MS, such as 5:200, not '{value}'")
        return pair


class FormatAndPath(_Report):
    """FORMAT=PATH, such as junit=report.xml, of the formats that results of the command can have.

    `renamed`: formats by an old name; those still work, with a warning.
    """

    name = "format=path"

    def __init__(self, formats: tuple[str, ...], renamed: Mapping[str, str]) -> None:
        self.formats, self.renamed = formats, renamed

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> ReportFile:
        if isinstance(value, ReportFile):
            return value
        name, _, path = str(value).partition("=")
        if not path:
            raise UsageProblem(f"{option_name(param)} is FORMAT=PATH, such as junit=report.xml, not '{value}'")
        if name in self.renamed and self.renamed[name] in self.formats:
            name = _current(name, self.renamed, param)
        if name not in self.formats:
            hint = suggest(name, self.formats)
            raise UsageProblem(f"{option_name(param)} '{value}': format '{name}' is unknown{hint}")
        return ReportFile(name, None if path == "-" else Path(path))


class Format(click.Choice):  # type: ignore[type-arg]  # generic only in newer clicks
    """One of some formats. `renamed`: formats by an old name; those still work, with a warning."""

    def __init__(self, formats: Sequence[str], renamed: Mapping[str, str]) -> None:
        super().__init__(list(formats))
        self.renamed = renamed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.renamed:
            value = _current(value, self.renamed, param)
        return super().convert(value, param, ctx)


def _current(name: str, renamed: Mapping[str, str], param: click.Parameter | None) -> str:
    """The current name of a format, with a warning about the old one."""
    option = option_name(param)
    warn_once(f"{option} {name} is the old spelling of {option} {renamed[name]}; write {option} {renamed[name]}")
    return renamed[name]


def warn_once(text: str) -> None:
    """Print a warning, one line on stderr, once a command: a value may be converted more often."""
    context = click.get_current_context(silent=True)
    if context is None or context.resilient_parsing:  # a shell asks for completions
        return
    shown = context.meta.setdefault("racebench.warnings", set())
    if text not in shown:
        shown.add(text)
        say(f"racebench: warning: {text}", err=True)


def option_name(param: click.Parameter | None) -> str:
    """The longest name of an option, as messages have it."""
    return max(param.opts, key=len) if param is not None else "the value"
