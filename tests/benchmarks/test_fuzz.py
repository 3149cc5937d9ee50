"""Random programs: what is drawn, the brute force, the comparison, what is made smaller; and some of a fixed seed.

RACEBENCH_FUZZ_SEED sets another seed. `python -m benchmarks.fuzz --seed N` runs more programs, and writes what differs.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzz import folder
from benchmarks.fuzz.__main__ import SETTINGS
from benchmarks.fuzz.client import Shape
from benchmarks.fuzz.comparison import EXPLORED_SCHEMA, Comparer, Found, _explained
from benchmarks.fuzz.features import FEATURES, TABLES
from benchmarks.fuzz.generator import MOST_SCHEDULES, generate
from benchmarks.fuzz.minimiser import minimise
from benchmarks.fuzz.program import Code, Program, Sql, Unit, schedules
from benchmarks.fuzz.subjects import request, script_text, strategy_of
from racebench.core.target import Target
from racebench.exploration import tree
from racebench.exploration.explorer import explore
from racebench.exploration.outcome import ScheduleResult
from racebench.postgres.embedded import EmbeddedServer
from racebench.workloads import catalog, scripts

#: Programs of one test, and tests: together they are thirty programs.
SHARE, SHARES = 10, 3
#: The seed of these programs, so that a change fails by what it changes. New seeds are for `python -m benchmarks.fuzz`.
SEED = 587354


@pytest.fixture(scope="module")
def seed() -> int:
    return int(os.environ.get("RACEBENCH_FUZZ_SEED") or SEED)


@pytest.fixture(scope="module")
def target(cache_folder: Path) -> Iterator[Target]:
    """One server for all programs, as those of `python -m benchmarks.fuzz` have."""
    with EmbeddedServer(connections=30, settings=SETTINGS) as target:
        yield target


@pytest.fixture(scope="module")
def comparer(target: Target) -> Iterator[Comparer]:
    with closing(Comparer(target, most=100, seconds=5)) as comparer:
        yield comparer


def code(*texts: str, **more: Any) -> Code:
    steps = tuple(Sql(text=text, save="x" if " AS x" in text else "", plain=" AS x" in text) for text in texts)
    return Code(units=(Unit(steps=steps),), **more)


def program(*codes: Code, invariant: str, script: bool) -> Program:
    """A program of two sessions; one code is that of both."""
    sessions = (0, 1) if len(codes) == 2 else (0, 0)
    invariants = (invariant,) if invariant else ()
    return Program(name="0:0", script=script, setup=TABLES, codes=codes, sessions=sessions, invariants=invariants)


READ, WRITE = "SELECT coalesce(max(n), 0) AS x FROM a WHERE id = 1", "UPDATE a SET n = {x}::int + 1 WHERE id = 1"
ADD = "UPDATE a SET n = n + 1 WHERE id = 1"
#: One after the other, two sessions that add 1 make 3 of 1.
LOST = "SELECT n FROM a WHERE id = 1 AND n <> 3"


# What is drawn


def test_a_seed_and_an_index_give_the_same_program() -> None:
    first, second = ([generate(seed, index) for seed in (1, 2) for index in range(50)] for _ in range(2))
    assert first == second
    assert len({replace(program, name="") for program in first}) > 90


def test_programs_have_every_feature_and_few_schedules() -> None:
    programs = [generate(0, index) for index in range(1500)]
    text = "\n".join(map(repr, programs))
    for feature in FEATURES.values():
        assert all(any(statement in text for statement in part) for part in feature.setup if part)
    words = ["CREATE TRIGGER", "CONSTRAINT TRIGGER", "CREATE FUNCTION f", "SERIALIZABLE", "REPEATABLE READ", "MERGE"]
    words += ["Many(", "Batch(", "guard=True", "undo=True", "unlock=True", "implicit=True", "tries=3", "commit=False"]
    words += ["SKIP LOCKED", "NOWAIT", "LOCK TABLE", "REFRESH", "pg_try_advisory_lock", "(id) DO UPDATE", "DO NOTHING"]
    assert [word for word in words if word not in text] == []
    assert {len(program.sessions) for program in programs} == {2, 3}
    assert all(schedules(one, joined=True) <= MOST_SCHEDULES for one in programs)


def test_a_script_is_one_that_racebench_reads() -> None:
    drawn = [program for index in range(300) if (program := generate(3, index)).script]
    assert len(drawn) > 100
    for one in drawn:
        scripts.parse(script_text(one), Path("script.sql"))


# The brute force, and the comparison


@pytest.mark.server
@pytest.mark.parametrize("script", [True, False])
def test_a_lost_update_has_two_outcomes_and_is_guilty_in_every_way(comparer: Comparer, script: bool) -> None:
    compared = comparer.compare(program(code(READ, WRITE), invariant=LOST, script=script))
    assert compared.differences == ()
    assert compared.verdicts == {"reduced": "INVALID", "unreduced": "INVALID", "brute force": "INVALID"}
    contents = {contents for _, contents in compared.outcomes["brute force"]}
    assert len(contents) == 2
    assert any('"(1,3,1)"' in text for text in contents)
    assert any('"(1,2,1)"' in text for text in contents)


@pytest.mark.server
@pytest.mark.parametrize("script", [True, False])
def test_an_atomic_update_has_one_outcome_and_is_innocent_in_every_way(comparer: Comparer, script: bool) -> None:
    compared = comparer.compare(program(code(ADD), invariant=LOST, script=script))
    assert compared.differences == ()
    assert compared.verdicts == {"reduced": "VALID", "unreduced": "VALID", "brute force": "VALID"}
    assert len(compared.outcomes["brute force"]) == 1


@pytest.mark.server
def test_the_brute_force_knows_both_victims_of_a_deadlock(comparer: Comparer) -> None:
    up, down = code(ADD, ADD.replace("id = 1", "id = 2")), code(ADD.replace("id = 1", "id = 2"), ADD)
    compared = comparer.compare(program(up, down, invariant="", script=False))
    victims = {
        place for sessions, _ in compared.outcomes["brute force"] for place, log, _ in sessions if "40P01" in log
    }
    assert victims == {0, 1}
    assert compared.verdicts["brute force"] == "INVALID"


@pytest.mark.server
def test_outcomes_of_a_script_differ_by_which_session_was_refused(comparer: Comparer, target: Target) -> None:
    """Rows 3 and 4, and one session refused. If that is the first, the second ran alone: a serial order. If the second
    is, it inserted 3, and not its other row: no serial order leaves that. Program 7 of seed 587354 was of this kind."""
    add = "INSERT INTO a SELECT max(id) + 1, 3 FROM a"
    one, two = (Code(units=(Unit(steps=(Sql(text=add),) * rows, transaction=False),)) for rows in (1, 2))
    script = program(one, two, invariant="", script=True)
    compared = comparer.compare(script)
    assert compared.differences == ()
    refused_with_two_rows = {
        tuple(bool(sqlstate) for _, _, sqlstate in sessions)
        for sessions, contents in compared.outcomes["brute force"]
        if "(4,3,)" in contents and "(5,3,)" not in contents
    }
    assert refused_with_two_rows == {(True, False), (False, True)}
    non_serializable: dict[tuple[bool, ...], set[int]] = {}

    def ended(result: ScheduleResult) -> None:
        assert result.effect is not None
        if sum(len(change.added) for change in result.effect.tables) == 2:
            refused = tuple(not session.ok for session in result.effect.sessions)
            non_serializable.setdefault(refused, set()).add(result.counts["non-serializable"])

    asked = request(script, strategy_of(script, []), reduce=True, most=100, seconds=5, schema=EXPLORED_SCHEMA)
    explore(target, asked, ended=ended)
    assert non_serializable == {(True, False): {0}, (False, True): {1}}


@pytest.mark.server
def test_a_program_that_fails_alone_is_no_subject_and_an_invariant_that_breaks_alone_is_left_out(
    comparer: Comparer,
) -> None:
    fails = program(code("INSERT INTO a VALUES (1, 1)"), code(ADD), invariant="", script=False)
    assert comparer.compare(fails).refused == "alone: 23505"
    compared = comparer.compare(program(code(ADD), invariant="SELECT FROM a WHERE n > 2", script=True))
    assert compared.program.invariants == ()
    assert not compared.differences


@pytest.mark.server
@pytest.mark.parametrize("script", [True, False])
def test_an_explorer_that_leaves_out_too_much_differs(
    comparer: Comparer, monkeypatch: pytest.MonkeyPatch, script: bool
) -> None:
    monkeypatch.setattr(tree, "independent", lambda _one, _other: True)
    wrong = program(code(READ, WRITE), code(READ, WRITE), invariant=LOST, script=script)
    compared = comparer.compare(wrong, again=False)
    assert any("reduced is complete" in line for line in compared.differences)
    assert any("reduced says VALID" in line for line in compared.differences)


# What is made smaller, and written


def names(one: Program) -> set[str]:
    return {word for word in ("DELETE FROM b", "CREATE VIEW") if word in repr(one)}


def test_a_program_is_made_as_small_as_what_is_wanted_of_it() -> None:
    wanted = {"DELETE FROM b", "CREATE VIEW"}
    drawn = [one for index in range(3000) if names(one := generate(0, index)) == wanted]
    assert {len(one.sessions) for one in drawn} == {2, 3}
    for one in drawn:
        small = minimise(one, lambda smaller: names(smaller) == wanted, seconds=60)
        assert len(small.sessions) == 2
        assert len(small.setup) == 1
        assert repr(small.codes).count("text=") == len(small.codes)
        assert small.invariants == ()
        assert minimise(small, lambda smaller: names(smaller) == wanted, seconds=60) == small


def test_a_program_is_written_as_a_scenario_that_can_be_explored(tmp_path: Path) -> None:
    retried = program(code(READ, WRITE, tries=3), invariant=LOST, script=True)
    command = folder.write(retried, tmp_path / "it", 7, "- a difference")
    assert command == f"racebench explore {tmp_path / 'it'} --strategy it --sessions 2 --budget unlimited"
    scenario = catalog.find_scenario(str(tmp_path / "it"))
    assert list(scenario.invariants.values()) == [LOST]
    assert scenario.strategies["it"].retry is not None
    text = (tmp_path / "it" / "README.md").read_text()
    assert "python -m benchmarks.fuzz --seed 7 --index 0" in text
    assert "- a difference" in text


def test_a_program_of_calls_is_written_as_a_file_of_python(tmp_path: Path) -> None:
    one = program(code(READ, WRITE), code(ADD, implicit=True), invariant=LOST, script=False)
    command = folder.write(one, tmp_path, 7, "")
    assert f"--call program:code0 --call program:code1 --setup {tmp_path}/setup.sql --invariant" in command
    text = (tmp_path / "program.py").read_text()
    ast.parse(text)
    known: dict[str, Any] = {}
    exec(text, known)
    assert known["CODES"] == one.codes
    assert callable(known["code1"])


# Random programs


@pytest.mark.server
@pytest.mark.parametrize("share", range(SHARES))
def test_random_programs_come_to_the_same_in_every_way(
    comparer: Comparer, seed: int, share: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("seed", seed)
    compared = [comparer.compare(generate(seed, index)) for index in range(share * SHARE, (share + 1) * SHARE)]
    assert sum(not one.refused for one in compared) > SHARE / 2
    different = [one for one in compared if one.differences]
    said = "\n".join(f"{one.program.name}: {one.differences[0]}" for one in different)
    assert not different, f"RACEBENCH_FUZZ_SEED={seed}; python -m benchmarks.fuzz --seed {seed} --index N\n{said}"


@pytest.mark.server
def test_programs_through_the_wire_come_to_the_same(comparer: Comparer) -> None:
    """One of them showed a query of racebench's between Bind and Execute; `--wire` of benchmarks.fuzz has more."""
    drawn = {Shape.FLUSHED: (2, 4), Shape.PIPELINE: (5, 7), Shape.BATCHED: (5, 13), Shape.APART: (5, 19)}
    for shape, (seed, index) in drawn.items():
        compared = comparer.compare(generate(seed, index), shape=shape)
        assert not compared.differences, (shape, compared.differences[0])
        assert len(set(compared.verdicts.values())) == 1, (shape, compared.verdicts)


@pytest.mark.parametrize("exclusion", [True, False])
def test_a_deadlock_over_an_exclusion_constraint_is_explained(exclusion: bool) -> None:
    force, reduced = Found("brute force"), Found("reduced", complete=True)
    outcome = (((0, "40P01", ""),), "")
    force.add(outcome, raced=False, deadlocked=True, guilty=True)
    assert bool(_explained(outcome, force, reduced, exclusion=exclusion)) is exclusion


@pytest.mark.parametrize(("tried", "rule"), [(True, "lock tried while it is released"), (False, "")])
def test_what_a_woken_session_finds_of_a_lock_that_it_tries_is_explained(tried: bool, rule: str) -> None:
    force, reduced = Found("brute force"), Found("reduced", complete=True)
    outcome = (((0, "", ""),), "log {busy}")
    force.add(outcome, raced=False, deadlocked=False, guilty=False, tried=tried)
    assert _explained(outcome, force, reduced) == rule
