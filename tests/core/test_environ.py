"""Changes of the environment end with their block."""

from __future__ import annotations

import os

import pytest

from racebench.core.environ import exported, hidden


def test_what_a_block_sets_or_hides_is_restored_when_it_ends_by_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "before")
    monkeypatch.delenv("RACEBENCH_TEST", raising=False)

    def change_and_fail() -> None:
        with exported({"PGHOST": "inside", "RACEBENCH_TEST": "1"}):
            assert (os.environ["PGHOST"], os.environ["RACEBENCH_TEST"]) == ("inside", "1")
            with hidden("PG"):
                assert not any(name.startswith("PG") for name in os.environ)
            assert os.environ["PGHOST"] == "inside"
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        change_and_fail()
    assert os.environ["PGHOST"] == "before"
    assert "RACEBENCH_TEST" not in os.environ
