"""The files of results: their names, and what happens if they cannot be written."""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import assert_refused_or_fine, run

from conftest import RACEBENCH, Command
from judged import REFERENCE, TWINS
from racebench.analysis import offline
from racebench.cli import main
from racebench.cli.files import ResultFiles, result_files
from racebench.cli.option_groups import OutputOptions
from racebench.cli.streams import GuardedStream
from racebench.core import atomic_write
from racebench.core.errors import RacebenchError
from racebench.history import archive
from racebench.history.recorded import About, Recorded
from racebench.reports.results.document import write_atomically

RECORDED = Recorded(history=TWINS, about=About(scenario="s", strategy="t", forbidden=("duplicates",)))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("aé界/.. \n"), max_size=400)


def _files(folder: Path, name: str) -> ResultFiles:
    return result_files(OutputOptions(json_path=None, results=str(folder), no_save=False, reports=()), name)


@given(scenario=NAMES, label=NAMES)
def test_any_name_makes_a_file_name_that_the_system_takes(scenario: str, label: str) -> None:
    files = _files(Path("results"), scenario)
    history = files.free_history_file(label)
    assert files.stem is not None
    assert history is not None
    for path in (files.stem.with_name(f"{files.stem.name}.json"), history):
        assert path.parent == Path("results")
        assert len(path.name.encode()) < 250
        assert path.name.isprintable()


def test_long_names_that_begin_alike_have_different_files() -> None:
    files = _files(Path("results"), "s")
    assert files.free_history_file("a" * 3000 + "b") != files.free_history_file("a" * 3000 + "c")
    plain = files.free_history_file("naive")
    assert plain is not None
    assert plain.name.endswith("-naive.history.npz")


@pytest.mark.server
def test_a_strategy_of_three_thousand_letters_keeps_its_results(racebench: Command, tmp_path: Path) -> None:
    name = "n" * 3000
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "schema.sql").write_text("CREATE TABLE events (id serial, tenant int, version int, operation bigint);")
    (folder / "insert.sql").write_text("INSERT INTO events (tenant, version, operation) VALUES (1, 1, :operation);")
    (folder / "scenario.toml").write_text(
        'summary = "s"\nschema = "schema.sql"\n[rows]\ntable = "events"\n'
        f'[strategies.{name}]\nsummary = "x"\nscript = "insert.sql"\n'
    )
    done = racebench("run", "./own", "-n", "16", "-w", "2", "--history")
    assert done.returncode == 0, done.stderr
    (document,) = (tmp_path / "results").glob("*.json")
    (result,) = json.loads(document.read_text())["runs"]
    assert result["strategy"] == name
    assert (tmp_path / "results" / result["history"]).is_file()


@pytest.mark.parametrize("arguments", [(command, "x" * 5000) for command in ("report", "check", "list")])
def test_a_name_that_is_too_long_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert_refused_or_fine(done, (2,))


def test_a_file_to_write_whose_name_is_too_long_is_named_before_anything_starts(tmp_path: Path) -> None:
    done = run("run", "-s", "naive", "--json", "x" * 300, "--no-save", cwd=tmp_path)
    assert_refused_or_fine(done, (2,))
    assert done.errors.startswith("racebench: --json 'xxx")


# A disk that is full


class _Full:
    """A file that takes some bytes, and then no more."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)


WRITERS: tuple[Callable[[Path], object], ...] = (
    lambda path: archive.write(path, RECORDED),
    lambda path: write_atomically(path, "x" * 5000),
)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("room", [0, 1, 40, 300, 1000, 2500])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(
    writer: Callable[[Path], object], room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    fdopen = os.fdopen
    monkeypatch.setattr(atomic_write.os, "fdopen", lambda handle, mode: _Full(fdopen(handle, mode), room))
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with pytest.raises(RacebenchError, match="No space left on device; free some space") as problem:
        writer(path)
    assert "\n" not in str(problem.value)
    del problem
    gc.collect()
    assert unraisable == [], "the interpreter prints these as tracebacks"
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("format_", ["jsonl", "edn"])
def test_an_export_on_a_full_disk_leaves_nothing(format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, output = tmp_path / "h.npz", tmp_path / "out"
    archive.write(history, RECORDED)
    fdopen = os.fdopen
    monkeypatch.setattr(atomic_write.os, "fdopen", lambda handle, mode: _Full(fdopen(handle, mode), 20))
    with pytest.raises(RacebenchError, match=r"cannot write .*out: No space left on device"):
        offline.export(history, format_, output)
    assert [file.name for file in tmp_path.iterdir()] == ["h.npz"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    "arguments", [("list",), ("schema", "scenario"), ("report", str(REFERENCE / "run.json"), "--format", "json")]
)
def test_stdout_on_a_full_disk_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run([*RACEBENCH, *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("racebench: cannot write stdout: No space left on device; free some space there")
    assert done.stderr.count("\n") == 1


_OPERATION = '{"type": "op", "process": 1, "start_ns": 0, "end_ns": 1, "outcome": "ok", "version": 1}\n'


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("list",), 0),
        (("show", "naive"), 0),
        (("report", str(REFERENCE / "run.json")), 0),
        (("report", str(REFERENCE / "explored.json"), "--format", "json"), 0),
        (("check", "h.jsonl"), 0),
        (("check", "h.jsonl", "--fail-on", "any"), 5),
        (("check", "h.jsonl", "--fail-on", "any", "--json", "-"), 5),
        (("config",), 0),
        (("run", "--help"), 0),
        ((), 0),
    ],
)
def test_a_reader_that_has_gone_away_is_no_failure_and_hides_none(
    arguments: tuple[str, ...],
    exit_code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "h.jsonl").write_text(_OPERATION)
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with GuardedStream(open(writer, "wb"), encoding="utf-8") as stdout:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stdout", stdout)
        code = main._main([*arguments])
        monkeypatch.undo()
    assert (code, capfd.readouterr().err) == (exit_code, "")


def test_a_command_goes_on_without_a_reader_of_its_warnings(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = ["report", str(REFERENCE / "run.json"), "--format", "grid", "-o", "out"]
    done = subprocess.run([*RACEBENCH, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    assert (done.returncode, (tmp_path / "out").is_file()) == (0, True)


# Few descriptors


@pytest.mark.parametrize("files", [6, 8, 12, 20])
def test_with_few_descriptors_a_command_works_or_ends_in_one_line(files: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [*RACEBENCH, "report", str(REFERENCE / "run.json"), "--format", "csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == done.returncode, "one line, which may be that of a library"
