"""What is sent between processes is pickled, and by dill where the other process may not find a name."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from racebench.core.model import Scenario
from racebench.executors import Failure
from racebench.executors.messages import packed, unpacked
from racebench.executors.serving import Task


def test_a_strategy_is_pickled_and_is_the_same_again(version_counter: Scenario) -> None:
    task = Task(print, version_counter.strategies["advisory"])
    data = packed(task)
    assert data[:1] == b"p"
    assert unpacked(data) == task


def test_a_local_function_is_sent_by_dill() -> None:
    number = 3
    data = packed(Task(print, lambda: number))
    assert data[:1] == b"d"
    assert unpacked(data).task() == 3


def test_what_is_of_the_main_module_is_sent_by_dill(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    exec("def call():\n    return 4\nclass Refused(Exception):\n    pass", vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    function, failure = packed(Task(print, main.call)), packed(Failure(main.Refused("no")))
    assert (function[:1], failure[:1]) == (b"d", b"d")
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    assert unpacked(function).task() == 4
    assert str(unpacked(failure).error) == "no"
