"""The public API is typed: what a user writes passes `mypy --strict`, and mypy and Python name a wrong option."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

import racebench
from racebench.api.options import CompareOptions, ExploreOptions, HammerOptions, LoadOptions, ReplayOptions
from racebench.core.model import Load

USES = Path(__file__).with_name("uses.py")
WRONG = """
import racebench

def race() -> None: ...

racebench.hammer(race, worker=3)  # worker
racebench.explore(race, session=3)  # session
racebench.explore(race, schedule="v1:x/race:s1")  # schedule
racebench.explore(race, budget="20")  # budget
racebench.Bench().explore(race, reduce=False)  # reduce
racebench.explore(race).wrong  # wrong

def test_it(racebench: racebench.Fixture) -> None:
    racebench.hammer(race, thinking=3)  # thinking
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The errors of `mypy --strict`, as line:message, of each file; of both in one run, which is what takes time."""
    api = pytest.importorskip("mypy.api")
    folder = tmp_path_factory.mktemp("types")
    wrong = folder / "wrong.py"
    wrong.write_text(WRONG)
    out, err, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", str(folder), str(USES), str(wrong)])
    assert not err, err
    lines = [line.partition(":")[::2] for line in out.splitlines() if ": error:" in line]
    return {path.name: [error for name, error in lines if Path(name).name == path.name] for path in (USES, wrong)}


def test_what_a_user_writes_is_typed(errors: dict[str, list[str]]) -> None:
    assert errors["uses.py"] == []


def test_what_a_user_gets_wrong_is_named(errors: dict[str, list[str]]) -> None:
    marked = [(number, line) for number, line in enumerate(WRONG.splitlines(), 1) if "  # " in line]
    assert len(errors["wrong.py"]) == len(marked) == 7
    for (number, line), error in zip(marked, errors["wrong.py"], strict=True):
        assert error.startswith(f"{number}:")
        assert f'"{line.rpartition("  # ")[2]}"' in error


@pytest.mark.parametrize(
    ("function", "option"),
    [
        (racebench.hammer, "worker"),
        (racebench.hammer, "duration_s"),
        (racebench.compare, "margins"),
        (racebench.explore, "session"),
        (racebench.explore, "schedule"),
        (racebench.replay, "sessions"),
    ],
)
def test_an_option_that_there_is_not_is_a_type_error_that_names_it(
    function: typing.Callable[..., object], option: str
) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        function(print, schedule="v1:x/print:s1", **{option: 3}) if function is racebench.replay else function(
            print, **{option: 3}
        )


def test_a_wrong_option_of_a_load_suggests_the_right_one() -> None:
    with pytest.raises(TypeError, match="'worker'; did you mean 'workers'"):
        racebench.hammer(print, worker=3)  # type: ignore[call-arg]


def test_the_options_of_functions_are_those_of_the_methods() -> None:
    for options, method in (
        (ExploreOptions, racebench.Bench.explore),
        (ReplayOptions, racebench.Bench.replay),
        (HammerOptions, racebench.Bench.hammer),
        (CompareOptions, racebench.Bench.compare),
    ):
        own = set(typing.get_type_hints(method)) - {"subjects", "return", "load", "schedule"}
        extra = set(typing.get_type_hints(LoadOptions)) if options in (HammerOptions, CompareOptions) else set()
        assert set(typing.get_type_hints(options)) == own | extra


def test_the_options_of_a_load_have_its_names_and_types() -> None:
    hints, options = typing.get_type_hints(Load), typing.get_type_hints(LoadOptions)
    renamed = {"workers", "duration_s", "operations", "seed"}
    assert options == {field.name: hints[field.name] for field in dataclasses.fields(Load) if field.name not in renamed}


def test_every_public_name_is_there() -> None:
    for name in racebench.__all__:
        assert getattr(racebench, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'explode'"):
        racebench.explode  # noqa: B018
