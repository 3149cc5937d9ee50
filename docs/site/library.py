"""The reference page of the Python library, made from the signatures and docstrings of `racebench.__all__`."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import racebench
from docs.site.reference import paragraphs

_INDENT = "    "


def page() -> str:
    """Every public name: functions first, then classes with their public methods and properties."""
    public = {name: getattr(racebench, name) for name in sorted(racebench.__all__, key=str.casefold)}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    classes = {name: value for name, value in public.items() if inspect.isclass(value)}
    parts = [
        "# Python library",
        "The public names of `racebench`, from their signatures and docstrings. [Your own code](../own-code.md) shows"
        " how they are used; the fixtures of the pytest plugin, `racebench` and `racebench_dsn`, are there too.",
        "## Functions",
    ]
    for name, function in functions.items():
        parts += [f"### {name}()", _block(f"racebench.{name}", function), _prose(function)]
    parts.append("## Classes")
    for name, kind in classes.items():
        parts += [f"### {name}", *_constructor(name, kind), _prose(kind)]
        for method, value in _members(kind):
            parts.append(f"#### {name}.{method}")
            if inspect.isfunction(value):
                parts.append(_block(method, value))
            parts.append(_prose(value))
    return "\n\n".join(part for part in parts if part) + "\n"


def _prose(value: object) -> str:
    """The docstring; a method of Bench that it names is a link."""
    text = paragraphs(inspect.getdoc(value) or "")
    return re.sub(r"\bBench\.(explore|replay|hammer|compare)\b", r"[Bench.\1](#bench\1)", text)


def _constructor(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield " · ".join(f"`{member.name}`" for member in kind)
    elif not issubclass(kind, BaseException) and "__init__" in vars(kind):
        yield _block(f"racebench.{name}", kind)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that have a docstring; fields are in the constructor."""
    for name, value in vars(kind).items():
        if not name.startswith("_") and isinstance(value, (FunctionType, property)) and inspect.getdoc(value):
            yield name, value


def _block(name: str, function: Any) -> str:
    """The signature as a block of Python, one parameter a line if it does not fit in one."""
    signature = inspect.signature(function)
    parameters = [_parameter(value) for value in signature.parameters.values() if value.name != "self"]
    kinds = [value.kind for value in signature.parameters.values() if value.name != "self"]
    has_star = inspect.Parameter.VAR_POSITIONAL in kinds
    if inspect.Parameter.KEYWORD_ONLY in kinds and not has_star:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = signature.return_annotation
    end = "" if inspect.isclass(function) or returned is inspect.Signature.empty else f" -> {_name(returned)}"
    line = f"{name}({', '.join(parameters)}){end}"
    if len(line) > 80:  # columns
        line = f"{name}(\n" + "".join(f"{_INDENT}{parameter},\n" for parameter in parameters) + f"){end}"
    return f"```python\n{line}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ""
    typed = "" if parameter.annotation is inspect.Parameter.empty else f": {_name(parameter.annotation)}"
    if parameter.default is inspect.Parameter.empty:
        return f"{star}{parameter.name}{typed}"
    return f"{star}{parameter.name}{typed} = {_default(parameter.default)}"


def _default(value: object) -> str:
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    return re.sub(r"<factory>", "...", repr(value))


def _name(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
