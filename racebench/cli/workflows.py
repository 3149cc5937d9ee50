"""`racebench init ci`: workflow files for GitHub Actions and GitLab CI, on the embedded server (docs/ci.md)."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from racebench.cli.option_groups import SubjectOptions
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.reports.results.document import write_atomically
from racebench.workloads import ad_hoc, catalog

_TEMPLATES = Path(__file__).with_name("templates")
_GITHUB = Path(".github/workflows/racebench.yml")
_GITLAB = Path(".gitlab-ci.yml")
_INCLUDED = Path(".gitlab/racebench.yml")
#: In the first line of each file, now and in earlier versions.
_MARK = "`racebench init ci`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written, and what the user still has to do, if anything."""

    path: Path
    next_move: str | None = None


def write(folder: Path, subject: SubjectOptions, *, github: bool, gitlab: bool, force: bool) -> list[Written]:
    """Write the files asked for into a repository; raises UsageProblem, and writes none, if one of them exists.

    A project that has a .gitlab-ci.yml of its own gets a file to include from it.
    """
    scenario = ad_hoc.find(subject.scenario, called=subject.call, setup=subject.setup, invariants=subject.invariant)
    strategies = subject.strategies
    if scenario.has_expectations:
        strategies = strategies or ("correct",)
    catalog.find_strategies(scenario, strategies)
    words = [subject.scenario] if subject.scenario else []
    for option, values in (
        ("--call", subject.call),
        ("--setup", subject.setup),
        ("--invariant", subject.invariant),
        ("--strategy", strategies),
    ):
        words += [word for value in values for word in (option, value)]
    commands = _commands(words, once=scenario.once, called=bool(subject.call))
    _check_root(folder)
    files: list[tuple[Written, str]] = []
    if github:
        files.append((Written(path=_GITHUB), _text("github.yml", commands)))
    if gitlab:
        text = _text("gitlab.yml", commands)
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


def _text(template: str, commands: Mapping[str, str]) -> str:
    lines = []
    for line in (_TEMPLATES / template).read_text(encoding="utf-8").splitlines():
        mark = line.strip()
        # In a YAML block every line of a command is indented; YAML removes the indentation again.
        lines.append(textwrap.indent(commands[mark], line[: line.index(mark)]) if mark in commands else line)
    return "\n".join([*lines, ""])


def _write(folder: Path, path: Path, text: str) -> None:
    try:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RacebenchError(f"cannot make {path.parent}: {problem.strerror}; make room for it there") from None
    write_atomically(folder / path, text)
