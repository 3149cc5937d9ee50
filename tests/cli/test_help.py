"""The help: sections, examples that parse, defaults that are the command's own; a group without a command prints it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from in_process import run

from racebench.cli import settings
from racebench.cli.base_command import Command
from racebench.cli.help_page import Section
from racebench.cli.main import cli

COMMANDS = dict(settings.leaves(cli))
NARROW = 80


def help_of(command: str, cwd: Path) -> str:
    done = run(*command.split(), "--help", cwd=cwd)
    assert (done.code, done.errors) == (0, "")
    return done.output


@pytest.mark.parametrize("group", ["", "server", "init"])
def test_a_group_without_a_command_prints_its_help_and_succeeds(group: str, tmp_path: Path) -> None:
    done = run(*group.split(), cwd=tmp_path)
    assert (done.code, done.errors) == (0, "")
    assert done.output == help_of(group, tmp_path)
    assert done.output.count("\n") > 8


def test_every_command_is_in_the_help_of_its_group_with_its_whole_first_sentence(tmp_path: Path) -> None:
    for group in (group for group in (cli, *cli.commands.values()) if isinstance(group, click.Group)):
        page = help_of("" if group is cli else str(group.name), tmp_path)
        for name, command in group.commands.items():
            assert re.search(rf"^  {name} +\S", page, re.MULTILINE), (group.name, name)
            assert str(command.help).partition(".")[0] in " ".join(page.split()), name
        assert "..." not in page.replace("[ARGS]...", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_each_option_once_in_sections_and_fits_80_columns(name: str, tmp_path: Path) -> None:
    page = help_of(name, tmp_path)
    options, _, examples = page.partition("\nExamples:\n")
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert len(re.findall(rf"^  (-\w, )?{max(parameter.opts, key=len)}\b(?!-)", options, re.MULTILINE)) == 1
    headings = re.findall(r"^(\w.*):$", options, re.MULTILINE)
    assert headings == [section.value for section in Section if section.value in headings]
    assert len(headings) > 1 or options.count("\n  -") < 8
    assert max(map(len, options.splitlines())) <= NARROW
    assert not re.search(r"[ \N{NO-BREAK SPACE}]$|\[default:$|\N{NO-BREAK SPACE}", page, re.MULTILINE)
    commands = [line for line in examples.splitlines() if line.startswith("  ") and not line.startswith("  #")]
    assert bool(commands) == bool(examples)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if getattr(command, "examples", ())])
def test_the_examples_of_a_command_are_command_lines_that_it_takes(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    for example in command.examples:
        words = shlex.split(re.sub(r"^eval \"\$\((.*)\)\"$", r"\1", example.line).partition(" | ")[0])
        assert words[: 1 + len(name.split())] == ["racebench", *name.split()], example
        with command.make_context(name, words[1 + len(name.split()) :]) as context:
            assert context.params


def test_the_commands_of_a_first_hour_have_examples() -> None:
    wanted = ("run", "compare", "matrix", "explore", "demo", "report", "check", "init ci", "server clean")
    assert [name for name in wanted if not COMMANDS[name].examples] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "strategies", "seconds"), [("run", "all", "2"), ("compare", "correct", "1"), ("matrix", "all", "2")]
)
def test_the_defaults_in_the_help_are_the_command_s_own(
    command: str, strategies: str, seconds: str, tmp_path: Path
) -> None:
    text = " ".join(help_of(command, tmp_path).split())
    assert re.search(rf"--strategy NAME [^[]*\[default: {strategies}\]", text)
    assert re.search(rf"--duration SECONDS [^[]*\[default: {seconds}, unless --operations is given\]", text)
