"""Which server a command uses."""

from __future__ import annotations

import os

import pytest

from racebench.core.errors import DatabaseProblem
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.targets import open_target


@pytest.mark.server
def test_without_an_external_server_an_embedded_one_runs_for_the_length_of_the_block() -> None:
    with open_target(None, version=18, connections=8) as target, connect(target) as connection:
        assert target.kind == "embedded"
        assert connection.info.server_version // 10000 == 18
    with pytest.raises(DatabaseProblem):
        connect(target)


@pytest.mark.server
def test_only_an_embedded_server_that_is_not_shared_has_no_other_programs() -> None:
    with open_target(None, version=18, connections=8) as target:
        assert target.exclusive
    share = f"test {os.getpid()}"
    with (
        open_target(None, version=18, connections=8, share=share) as one,
        open_target(None, version=18, connections=8, share=share) as other,
    ):
        assert not one.exclusive
        assert not other.exclusive


def test_an_external_server_is_checked_before_it_is_used(embedded: Target) -> None:
    with open_target(embedded, version=16, connections=8) as target:
        assert target is embedded
    with (
        pytest.raises(DatabaseProblem, match=r"100000 are needed"),
        open_target(embedded, version=16, connections=10**5),
    ):
        pass
