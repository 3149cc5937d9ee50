"""`racebench init ci`: workflow files for GitHub Actions and GitLab CI, on the embedded server (docs/ci.md)."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from racebench.cli.option_groups import SubjectOptions
from racebench.cli.subjects import find_scenario
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.reports.results.document import write_atomically
from racebench.workloads import catalog

_TEMPLATES = Path(__file__).with_name("templates")
_GITHUB = Path(".github/workflows/racebench.yml")
_GITLAB = Path(".gitlab-ci.yml")
_INCLUDED = Path(".gitlab/racebench.yml")
#: In the first line of each file, now and in earlier versions.
_MARK = "`racebench init ci`"
#: The place of variables in the templates, and those that code of the user may need to be imported.
_ENVIRONMENT = "@ENVIRONMENT@"
_NEEDED = ("DJANGO_SETTINGS_MODULE",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written, and what the user still has to do, if anything."""

    path: Path
    next_move: str | None = None


def write(folder: Path, subject: SubjectOptions, *, github: bool, gitlab: bool, force: bool) -> list[Written]:
    """Write the files asked for into a repository; raises UsageProblem, and writes none, if one of them exists.

    A project that has a .gitlab-ci.yml of its own gets a file to include from it.
    """
    scenario = find_scenario(subject)
    strategies = subject.strategies
    if scenario.has_expectations:
        strategies = strategies or ("correct",)
    catalog.find_strategies(scenario, strategies)
    words = [subject.scenario] if subject.scenario else []
    for option, values in (
        ("--call", subject.call),
        ("--exec", subject.programs),
        *((option, (value,) if value else ()) for option, value in subject.service_options.items()),
        ("--http", subject.requests),
        ("--header", subject.headers),
        ("--setup", subject.setup),
        ("--invariant", subject.invariant),
        ("--strategy", strategies),
    ):
        words += [word for value in values for word in (option, value)]
    if subject.restart:
        words.append("--restart")
    commands = _commands(words, once=scenario.once, called=subject.own_code is not None)
    variables = _variables() if subject.call else []
    _check_root(folder)
    files: list[tuple[Written, str]] = []
    if github:
        files.append((Written(path=_GITHUB), _text("github.yml", commands, _block("env", variables))))
    if gitlab:
        text = _text("gitlab.yml", commands, _block("variables", variables))
        existing = folder / _GITLAB
        if existing.exists() and not _is_ours(existing):
            include = f"add to {_GITLAB}:  include: [{{local: {_INCLUDED}}}]"
            files.append((Written(path=_INCLUDED, next_move=include), text))
        else:
            files.append((Written(path=_GITLAB), text))
    for file, _ in files:
        if (folder / file.path).exists() and not force:
            raise UsageProblem(f"{file.path} exists; give --force to overwrite it, or move it away")
    for file, text in files:
        _write(folder, file.path, text)
    return [file for file, _ in files]


def _check_root(folder: Path) -> None:
    """Raise UsageProblem below a repository's root: both services read their files at the root only."""
    for above in folder.parents if not (folder / ".git").exists() else ():
        if (above / ".git").exists():
            raise UsageProblem(f"{folder} is inside the repository {above}, where CI would not look; go there first")


def _is_ours(path: Path) -> bool:
    """Whether an earlier `racebench init ci` wrote a file: its first line says so."""
    try:
        first_line = next(iter(path.read_text(encoding="utf-8", errors="replace").splitlines()), "")
    except OSError as problem:
        raise UsageProblem(f"{path.name} cannot be read: {problem.strerror}") from None
    return first_line.startswith("#") and _MARK in first_line


def _commands(words: Sequence[str], *, once: bool, called: bool) -> dict[str, str]:
    """The shell commands, by their marks in the templates."""
    load = ["--workers", "8"] if once else ["--workers", "8", "--duration", "2"]
    if not (once or called):  # what Python does between its statements is its own
        load += ["--hold", "1"]
    end = ["--fail-on", "any", "--report"]
    return {
        "@EXPLORE@": shlex.join(
            ["racebench", "explore", *words, "--budget", "120", *end, "junit=racebench-explore.xml"]
        ),
        "@RUN@": shlex.join(["racebench", "run", *words, *load, *end, "junit=racebench-run.xml"]),
    }


def _variables() -> list[tuple[str, str]]:
    """The environment variables without which the user's code cannot be imported, and their values now."""
    return [(name, value) for name in _NEEDED if (value := os.environ.get(name))]


def _block(key: str, variables: Sequence[tuple[str, str]]) -> list[str]:
    """The lines of YAML that set variables for a job; none if there are no variables."""
    return [f"{key}:", *(f"  {name}: {json.dumps(value)}" for name, value in variables)] if variables else []


def _text(template: str, commands: Mapping[str, str], environment: Sequence[str]) -> str:
    lines: list[str] = []
    for line in (_TEMPLATES / template).read_text(encoding="utf-8").splitlines():
        mark = line.strip()
        if mark == _ENVIRONMENT:
            lines += [line[: line.index(mark)] + more for more in environment]
            continue
        # In a YAML block every line of a command is indented; YAML removes the indentation again.
        lines.append(textwrap.indent(commands[mark], line[: line.index(mark)]) if mark in commands else line)
    return "\n".join([*lines, ""])


def _write(folder: Path, path: Path, text: str) -> None:
    try:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RacebenchError(f"cannot make {path.parent}: {problem.strerror}; make room for it there") from None
    write_atomically(folder / path, text)
