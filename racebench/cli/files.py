"""The files that a command writes: checked before anything starts, written again after each result."""

from __future__ import annotations

import hashlib
import re
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from racebench.cli.option_groups import OutputOptions
from racebench.core.errors import UsageProblem
from racebench.reports.results.document import check_writable, now, write_atomically

#: The longest part of a file's name in bytes: a name of two such parts, a date and a suffix has less than 255.
_LONGEST_NAME = 100


def check_file(option: str, path: Path, *, stdout: bool = True) -> None:
    """Raise UsageProblem unless the file that an option names can be written. `stdout`: the option takes '-' too."""
    try:
        if path.is_dir():
            other = ", or '-' for stdout" if stdout else ""
            raise UsageProblem(f"{option} '{path}' is a folder; name a file{other}")
        if not path.parent.is_dir():
            raise UsageProblem(f"{option} '{path}': folder '{path.parent}' does not exist; make it first")
        if path.exists() and not path.is_file():
            return
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as problem:
        raise UsageProblem(f"{option} '{path}' cannot be written: {problem.strerror}; name another place") from None


def check_optional_file(option: str, path: str | None) -> None:
    """As check_file, for an option that may not be given and may name stdout as '-'."""
    if path is not None and path != "-":
        check_file(option, Path(path))


def check_reports(options: OutputOptions) -> None:
    """Raise UsageProblem unless the files of --report can be written, and stdout is for one document at most."""
    for report in options.reports:
        if report.path is not None:
            check_file("--report", report.path)
    check_one_on_stdout(_on_stdout(options))


def check_one_on_stdout(documents: Sequence[str]) -> None:
    """Raise UsageProblem if several options write to stdout."""
    if len(documents) > 1:
        raise UsageProblem(f"{' and '.join(documents)} both write to stdout; give all but one of them a file")


def stdout_is_taken(options: OutputOptions) -> bool:
    """Whether stdout is for a document alone."""
    return bool(_on_stdout(options))


def _on_stdout(options: OutputOptions) -> list[str]:
    """The options that write to stdout, as they were given."""
    named = (("--json", options.json_path), ("--markdown", options.markdown))
    return [
        *(f"{option} -" for option, path in named if path == "-"),
        *(f"--report {report.format}=-" for report in options.reports if report.path is None),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFiles:
    """Where a command's results go: the file of --json, and a new file in the results folder.

    `stem` is the path of what is saved, without an ending; None if nothing is. Histories go there too.
    """

    json_path: str | None
    folder: Path | None
    stem: Path | None

    @property
    def json_alone(self) -> bool:
        """Whether stdout is for the JSON alone."""
        return self.json_path == "-"

    def check(self) -> None:
        """Make the results folder; raises UsageProblem unless it and --json's file can be written."""
        check_optional_file("--json", self.json_path)
        if self.folder is not None:
            check_writable(self.folder)

    def write(self, text_in: Callable[[Path], str]) -> Path | None:
        """Write results to each file, whole or not at all; the file in the results folder is returned.

        `text_in` gives the text for a folder: it names histories relative to it.
        """
        if self.json_path is not None and not self.json_alone:
            write_atomically(Path(self.json_path), text_in(Path(self.json_path).parent))
        if self.folder is None or self.stem is None:
            return None
        path = self.stem.with_name(f"{self.stem.name}.json")
        write_atomically(path, text_in(path.parent))
        return path

    def free_history_file(self, label: str) -> Path | None:
        """A new file for the history of a run; None if nothing is saved."""
        from racebench.history.archive import SUFFIX  # numpy takes a tenth of a second to load

        if self.stem is None:
            return None
        name = f"{_file_name(self.stem.name)}-{_file_name(label)}"
        path, number = self.stem.with_name(f"{name}{SUFFIX}"), 1
        while path.exists():
            number += 1
            path = self.stem.with_name(f"{name}-{number}{SUFFIX}")
        return path


def _is_device(path: Path) -> bool:
    """Whether a path is that of a device or a pipe, beside which nothing else is written."""
    try:
        return path.exists() and not path.is_file()
    except OSError:
        return False  # a name that is too long; check_file says so


def _file_name(text: str) -> str:
    """A name as part of a file's: letters, digits and _.+-; what is long is cut, and told apart by a digest."""
    name = re.sub(r"[^\w.+-]+", "-", text)
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"


def result_files(options: OutputOptions, name: str) -> ResultFiles:
    """The files of results called `name`: in the results folder, else beside --json's file."""
    folder = None if options.no_save else Path(options.results)
    stem = None
    json_path = options.json_path
    if folder is not None:
        stamp = now().replace(":", "").replace("-", "")
        stem = folder / f"{stamp}-{_file_name(name)}-{secrets.token_hex(3)}"
    elif json_path is not None and json_path != "-" and not _is_device(Path(json_path)):
        stem = Path(json_path).with_suffix("")
    return ResultFiles(json_path=json_path, folder=folder, stem=stem)
