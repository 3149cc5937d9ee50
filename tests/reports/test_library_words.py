"""The words of a report for Python: no option of the command line, and commands as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import racebench
from racebench.reports.library_words import PARAMETERS, in_library_words

PACKAGE = Path(racebench.__file__).parent
#: Where the sentences and notes of the library's results are made.
SPEAKERS = ["analysis", "exploration", "load", "reports/sentences.py", "reports/exploration_text.py"]
#: Options in messages that only a command gives, or that are not racebench's.
OF_COMMANDS = {"--threshold", "--format", "--reference", "--export", "--call"}
OF_COMMANDS |= {"--export-spec"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("number order: try `--strategy advisory`.", "number order: try `strategy='advisory'`."),
        ("raise --workers, --duration, --think or --hold", "raise workers, seconds, think_us or hold_us"),
        ("try --rounds 12, or a longer --duration", "try rounds=12, or a longer seconds"),
        ("slower than --rate 2.5; lower it", "slower than load=racebench.LoadOptions(rate_per_s=2.5); lower it"),
        ("compare with --protocol\npipelined", "compare with load=racebench.LoadOptions(protocol='pipelined')"),
        ("Explore more with --draws N.", "Explore more with search=racebench.Search(draws=N)."),
        (
            "a\n  racebench replay 'v1:a:s1' --call a:b --setup x\nb --setup",
            "a\n  racebench replay 'v1:a:s1' --call a:b --setup x\nb setup",
        ),
        ("see `racebench run --history`; raise --rounds", "see `racebench run --history`; raise rounds"),
        (
            "use --pooler transaction; --pooler starts one",
            "use racebench.Bench(pooler='transaction'); pooler starts one",
        ),
        ("an --unknown option, 3--4 and --", "an --unknown option, 3--4 and --"),
    ],
)
def test_options_become_parameters(text: str, expected: str) -> None:
    assert in_library_words(text) == expected


def test_every_option_that_a_result_names_has_a_parameter() -> None:
    files = [file for speaker in SPEAKERS for file in _files(PACKAGE / speaker)]
    named = {
        option
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _is_docstring(node.value)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)
    }
    assert {"--workers", "--strategy", "--budget"} <= named
    assert named - OF_COMMANDS <= PARAMETERS.keys()


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _is_docstring(text: str) -> bool:
    return "\n" in text
