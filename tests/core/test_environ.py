"""Changes of the environment end with their block."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from racebench.core.environ import exported, hidden
from waiting import wait_for


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


def function_of(thread: threading.Thread) -> str:
    """The function that a thread is in."""
    return sys._current_frames()[thread.ident or 0].f_code.co_name


def test_threads_that_hide_variables_at_once_do_not_restore_them_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "before")
    ended = threading.Event()
    seen: list[str | None] = []

    def hide() -> None:
        with hidden("PG"):
            ended.wait()
            seen.append(os.environ.get("PGHOST"))

    other = threading.Thread(target=hide)
    with hidden("PG"):
        other.start()
        wait_for(lambda: function_of(other) in ("hidden", "wait"), "the other thread does not wait")
    ended.set()
    other.join()
    assert seen == [None]
    assert os.environ["PGHOST"] == "before"
