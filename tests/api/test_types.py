"""The public API is typed: what a user writes passes `mypy --strict`, and mypy and Python name a wrong option.

The Python of the documents and of examples/ is checked too, with the fixture's type added where a test has none.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import racebench
from racebench.core.model import Load

USES = Path(__file__).with_name("uses.py")
ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/own-code.md")
#: What the blocks of a document use and another block, or the reader, has.
NAMES = """
from typing import Any
import psycopg
SCHEMA = DUPLICATES = ""
class shop:
    @staticmethod
    def create_order() -> None: ...
def create_order(connection: psycopg.Connection[Any]) -> None: ...
create_order_locked = pay = cancel = create_order
"""
#: Documents show tests without annotations, and read rows that may be None; what they ask of racebench is checked.
CONFIG = """
[mypy]
strict = true
[mypy-documented.*]
allow_untyped_defs = true
allow_incomplete_defs = true
allow_untyped_calls = true
ignore_missing_imports = true
disallow_any_generics = false
disallow_subclassing_any = false
disallow_untyped_decorators = false
strict_optional = false
disable_error_code = no-redef
[mypy-orders.*,shop.*,django.*,sqlalchemy.*,dj_database_url.*,fastapi.*,starlette.*,httpx.*,anyio.*,asyncpg.*,psycopg2.*]
ignore_missing_imports = true
follow_imports = skip
"""
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


def blocks(path: Path) -> Iterator[tuple[int, str]]:
    """The indented blocks of a document that are Python and not a command, each with the line at which it begins."""
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        end = at
        if lines[at].startswith("    ") and (not at or not lines[at - 1].strip()):
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            text = textwrap.dedent("\n".join(lines[at:end]))
            try:
                is_python = any(isinstance(part, ast.FunctionDef | ast.Import) for part in ast.parse(text).body)
            except SyntaxError:
                is_python = False
            if is_python:
                yield at + 1, text
        at = end + 1


def annotated(text: str) -> str:
    """A test with the type of the fixture; what a function gets besides stays as it is."""
    for name, kind in (("racebench", "racebench.Fixture"), ("racebench_dsn", "str")):
        text = re.sub(rf"(def \w+\((?:\w+, )*){name}(?=[,)])", rf"\1{name}: {kind}", text)
    return text


def documented(folder: Path) -> list[Path]:
    """Files with the Python of the documents and the examples, named after where it is."""
    texts = {
        f"{Path(name).stem.replace('-', '_')}_{line}": f"from documented.names import *\n{text}"
        for name in DOCUMENTS
        for line, text in blocks(ROOT / name)
    }
    for example in sorted((ROOT / "examples").rglob("*.py")):
        texts["_".join(example.relative_to(ROOT).with_suffix("").parts)] = example.read_text()
    assert len(texts) > 8
    package = folder / "documented"
    package.mkdir()
    files = [package / "__init__.py", package / "names.py"]
    files[0].touch()
    files[1].write_text(NAMES)
    for name, text in texts.items():
        file = package / f"documented_{name}.py"
        file.write_text("from __future__ import annotations\nimport racebench\n" + annotated(text))
        files.append(file)
    return files


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The errors of `mypy --strict`, as line:message, of each file; of all in one run, which is what takes time."""
    api = pytest.importorskip("mypy.api")
    folder = tmp_path_factory.mktemp("types")
    wrong, config = folder / "wrong.py", folder / "mypy.ini"
    wrong.write_text(WRONG)
    config.write_text(CONFIG)
    files = [USES, wrong, *documented(folder)]
    options = ["--config-file", str(config), "--no-error-summary", "--cache-dir", str(folder)]
    out, err, _ = api.run([*options, *map(str, files)])
    assert not err, err
    lines = [line.partition(":")[::2] for line in out.splitlines() if ": error:" in line]
    return {path.name: [error for name, error in lines if Path(name).name == path.name] for path in files}


def test_what_a_user_writes_is_typed(errors: dict[str, list[str]]) -> None:
    assert errors["uses.py"] == []


def test_what_a_user_gets_wrong_is_named(errors: dict[str, list[str]]) -> None:
    marked = [(number, line) for number, line in enumerate(WRONG.splitlines(), 1) if "  # " in line]
    assert len(errors["wrong.py"]) == len(marked) == 7
    for (number, line), error in zip(marked, errors["wrong.py"], strict=True):
        assert error.startswith(f"{number}:")
        assert f'"{line.rpartition("  # ")[2]}"' in error


def test_the_python_of_the_documents_and_the_examples_is_typed(errors: dict[str, list[str]]) -> None:
    found = {name: said for name, said in errors.items() if name.startswith("documented_") and said}
    assert not found
    checked = (ROOT / "docs/own-code.md").read_text()
    assert "racebench.explore(create_order" in checked


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


@pytest.mark.parametrize("name", ["explore", "replay", "hammer", "compare"])
def test_functions_methods_and_the_fixture_have_the_same_parameters(name: str) -> None:
    """Each by its name, so that an editor shows it."""
    method, function, fixture = (
        {
            parameter.name: parameter
            for parameter in inspect.signature(getattr(of, name)).parameters.values()
            if parameter.name != "self"
        }
        for of in (racebench.Bench, racebench, racebench.Fixture)
    )
    assert not [parameter for parameter in fixture.values() if parameter.kind is parameter.VAR_KEYWORD]
    assert function.keys() - method.keys() == {"dsn", "server", "give_up_after"}
    assert fixture.keys() - method.keys() == {"check"}
    for other in (function, fixture):
        assert method.keys() <= other.keys()
    for parameter in method.values():
        assert function[parameter.name].default == parameter.default
        assert function[parameter.name].annotation == parameter.annotation
        assert fixture[parameter.name].default in (parameter.default, None)  # None: as in a call before


def test_the_options_of_a_load_have_its_names_types_and_defaults() -> None:
    loads, options = (
        {field.name: (field.type, field.default) for field in dataclasses.fields(of)}
        for of in (Load, racebench.LoadOptions)
    )
    renamed = {"workers", "duration_s", "operations", "seed", "faults"}
    assert options.pop("faults") == ("Sequence[str]", ())  # as they are written
    assert options == {name: kind for name, kind in loads.items() if name not in renamed}


def test_every_public_name_is_there() -> None:
    for name in racebench.__all__:
        assert getattr(racebench, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'explode'"):
        racebench.explode  # noqa: B018
