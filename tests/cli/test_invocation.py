"""The command line that documents record: as it was typed, quoted for a shell, without passwords."""

from __future__ import annotations

import shlex

import pytest

from racebench.cli import invocation


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-s", "naive", "--dsn", "postgresql://app:hunter2@host/db"],
        ["run", "--dsn=postgresql://app:hunter2@host/db?sslpassword=hunter2"],
        ["explore", "--dsn", "host=db password='hunter2' user=app"],
    ],
)
def test_a_password_is_masked_and_the_rest_is_as_it_was_typed(arguments: list[str]) -> None:
    typed = invocation.as_typed(arguments)
    assert "hunter2" not in typed
    assert "app" in typed
    assert shlex.split(typed)[:2] == ["racebench", arguments[0]]


def test_what_was_typed_is_quoted_for_a_shell() -> None:
    arguments = ["explore", "--call", "shop:buy('a b')", "--invariant", "SELECT 1\nWHERE false", "-D", "note=$HOME"]
    assert shlex.split(invocation.as_typed(arguments)) == ["racebench", *arguments]


def test_code_that_is_not_the_command_line_has_no_command() -> None:
    assert invocation.command() == ""
