"""Writes a program as a folder that racebench's command explores: a scenario, or a file of Python callables."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz.program import RETRIED, Program
from benchmarks.fuzz.subjects import script_text, setup_text

_CALLS = '''"""The callables of program {name}. Run from a checkout of racebench, with this folder in PYTHONPATH."""

from benchmarks.fuzz.interpreter import call
from benchmarks.fuzz.program import Batch, Branch, Code, Many, Savepoint, Sql, Unit

CODES = {codes}

{functions}'''
_FUNCTION = """
def code{place}(connection):
    call(connection, CODES[{place}], [])
"""


def write(program: Program, folder: Path, seed: int, notes: str) -> str:
    """Write a program and what was found of it; returns the command that explores it again."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "setup.sql").write_text(setup_text(program))
    sessions = f"--sessions {len(program.sessions)} --budget unlimited"
    if program.script:
        (folder / "script.sql").write_text(script_text(program))
        (folder / "scenario.toml").write_text(_manifest(program))
        command = f"racebench explore {folder} --strategy it {sessions}"
    else:
        functions = "\n".join(_FUNCTION.format(place=place) for place in range(len(program.codes)))
        codes = "(\n" + "".join(f"    {code!r},\n" for code in program.codes) + ")"
        text = _CALLS.format(name=program.name, codes=codes, functions=functions)
        (folder / "program.py").write_text(text)
        calls = " ".join(f"--call program:code{place}" for place in program.sessions)
        invariants = " ".join(f'--invariant "{query}"' for query in program.invariants)
        command = f"PYTHONPATH=.:{folder} racebench explore {calls} --setup {folder}/setup.sql {invariants} {sessions}"
    again = f"python -m benchmarks.fuzz --seed {seed} --index {program.name.partition(':')[2]}"
    (folder / "README.md").write_text(
        f"Program {program.name}, made smaller.\n\n    {command}\n    {command} --no-reduction\n\n"
        f"The whole program:\n\n    {again}\n\n{notes}\n"
    )
    return command


def _manifest(program: Program) -> str:
    """The scenario; with a new schema for every schedule, because its tables have no tenants."""
    invariants = program.invariants or ("SELECT 1 WHERE false",)
    lines = [
        f'summary = "program {program.name}"',
        'schema = "setup.sql"',
        "once = true",
        'forbid = ["violations", "refused"]',
        "[invariants]",
        *(f'invariant-{place} = "{query}"' for place, query in enumerate(invariants, 1)),
        "[strategies.it]",
        'summary = "the script"',
        'script = "script.sql"',
    ]
    if program.codes[0].tries > 1:
        listed = ", ".join(f'"{sqlstate}"' for sqlstate in sorted(RETRIED))
        lines += ["[strategies.it.retry]", f"sqlstates = [{listed}]", f"tries = {program.codes[0].tries}"]
    return "\n".join(lines) + "\n"
