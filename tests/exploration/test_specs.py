"""isolationtester's specs: read with their mistakes named, run in its own words, and written for it."""

from __future__ import annotations

import json
import os
import subprocess
from math import comb, factorial
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command, Start, UsersServer, assert_one_line
from racebench.core.errors import DatabaseProblem, ScenarioProblem
from racebench.core.target import Target
from racebench.exploration.isolationtester import runner
from racebench.exploration.isolationtester.place import DATABASE, own_database, place_on
from racebench.exploration.isolationtester.runner import Runner
from racebench.exploration.isolationtester.specs import Blocker, Kind, parse
from racebench.postgres.connection import connect
from racebench.postgres.embedded import as_superuser
from racebench.postgres.external import external
from waiting import LIMIT_S, finish, wait_for

ROOT = Path(__file__).parents[2]
SPECS = Path(__file__).parent / "specs"
FINDINGS = ROOT / "docs" / "findings"
CONFORMANCE = sorted((*SPECS.glob("*.spec"), *FINDINGS.glob("*.spec")))
#: isolationtester waits six minutes for what we call impossible at once.
OURS_ALONE = {"impossible"}
ISOLATIONTESTER = next(Path("/usr/lib/postgresql").glob("*/lib/pgxs/src/test/isolation/isolationtester"), None)
#: What pg_isolation_regress exports for isolationtester (src/test/regress/pg_regress.c).
REGRESS = {
    "PGDATESTYLE": "Postgres, MDY",
    "PGTZ": "America/Los_Angeles",
    "PGOPTIONS": "-c intervalstyle=postgres_verbose",
}

SMALL = """
setup { CREATE TABLE t (v int); }
teardown { DROP TABLE t; }
session s1
step a1 { INSERT INTO t VALUES (1); }
session s2
step b1 { SELECT * FROM t; }
"""


def output_of(target: Target, text: str, name: str = "test") -> str:
    parts: list[str] = []
    with place_on(target) as place:
        Runner(place, parts.append).run(parse(text, "test.spec"), name)
    return "".join(parts)


# Reading


def test_a_spec_is_read_whole() -> None:
    spec = parse((SPECS / "after.spec").read_text(), "after.spec")
    assert [session.name for session in spec.sessions] == ["s1", "s2", "s3"]
    assert [[step.name for step in session.steps] for session in spec.sessions] == [["b1", "u1", "c1"], ["u2"], ["u3"]]
    assert len(spec.permutations) == 3
    assert spec.permutations[0][3].blockers == (Blocker(kind=Kind.STEP, step="u2"),)
    assert spec.permutations[2][2].blockers == (Blocker(kind=Kind.ONCE), Blocker(kind=Kind.STEP, step="u2"))
    notices = parse((SPECS / "notices.spec").read_text(), "notices.spec")
    assert notices.permutations[0][2].blockers == (Blocker(kind=Kind.NOTICES, step="say", notices=1),)
    names = parse((SPECS / "names.spec").read_text(), "names.spec")
    assert names.sessions[0].name == 'the "1st" # one'
    assert names.step("permutation").sql == "SELECT 'a name like a word' AS said;"
    assert [turn.step for turn in names.permutations[0]] == ["say it", "über", "permutation"]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_all_interleavings_are_as_many_as_the_multinomial_says_and_each_once(lengths: list[int]) -> None:
    text = "".join(
        f"session s{n}\n" + "".join(f"step s{n}_{k} {{ SELECT 1; }}\n" for k in range(length))
        for n, length in enumerate(lengths)
    )
    permutations = parse(text, "x.spec").all_permutations()
    orders = [tuple(step.step for step in permutation) for permutation in permutations]
    expected = factorial(sum(lengths))
    for length in lengths:
        expected //= factorial(length)
    assert len(orders) == len(set(orders)) == expected
    if lengths == [2, 2]:
        assert expected == comb(4, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.spec:1:1: expected setup, teardown or a session, found the end of the file"),
        ("setup", "x.spec:1:6: expected the SQL of the setup in { }, found the end of the file"),
        ("session s1", "x.spec:1:11: expected a step, found the end of the file"),
        ("session s1\nstep { SELECT 1; }", "x.spec:2:6: expected the name of a step, found 'SELECT 1;'"),
        ("session s1\n  step a { SELECT 1;", "x.spec:2:10: this SQL block has no end; close it with }"),
        ('session "s1\nstep a { }', "x.spec:1:9: this name has no closing quote on its line"),
        ("session s1\nstep a { }\nsession s2\nstep a { }", "x.spec:4:6: there is a step 'a' already"),
        (SMALL + "permutation a1 b2", "x.spec:8:16: there is no step 'b2'; known: a1, b1"),
        (SMALL + "permutation a1(a1) b1", "x.spec:8:16: step 'a1' cannot wait for 'a1', which is of its own session"),
        (SMALL + "permutation a1(b1 notices) b1", "x.spec:8:26: expected how many notices, found ')'"),
        (SMALL + "permutation a1(b1", "x.spec:8:18: expected ',' or ')', found the end of the file"),
        (SMALL + "permutation", "x.spec:8:12: expected the name of a step, found the end of the file"),
        (SMALL + "permutation a1 b1\nsetup { }", "x.spec:9:1: expected a permutation, found 'setup'"),
        (SMALL + "%", "x.spec:8:1: unexpected character '%'"),
    ],
)
def test_a_spec_that_does_not_parse_is_said_to_with_line_and_column(text: str, message: str) -> None:
    with pytest.raises(ScenarioProblem) as caught:
        parse(text, "x.spec")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# Conformance


@pytest.mark.parametrize("path", CONFORMANCE, ids=lambda path: path.stem)
def test_the_output_equals_that_of_isolationtester(users_server: UsersServer, racebench: Command, path: Path) -> None:
    done = racebench("explore", str(path), "--dsn", users_server.dsn())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == path.with_suffix(".out").read_text()
    assert _nothing_left(users_server)


def test_there_is_a_spec_for_every_output_and_the_other_way_round() -> None:
    assert len(CONFORMANCE) > len(OURS_ALONE)
    assert sorted(path.with_suffix(".spec") for at in (SPECS, FINDINGS) for path in at.glob("*.out")) == CONFORMANCE


@pytest.mark.skipif(ISOLATIONTESTER is None, reason="isolationtester is not installed; CI installs it")
def test_the_expected_outputs_are_what_isolationtester_prints(users_server: UsersServer) -> None:
    for path in CONFORMANCE:
        if path.stem not in OURS_ALONE:
            assert isolationtester(users_server, path) == path.with_suffix(".out").read_text(), path.stem


def isolationtester(server: UsersServer, path: Path) -> str:
    """What PostgreSQL's own tester prints, in a database of its own."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS isolation")
        admin.execute("CREATE DATABASE isolation")
        try:
            with path.open() as spec:
                return subprocess.run(
                    [str(ISOLATIONTESTER), server.dsn(dbname="isolation")],
                    stdin=spec,
                    capture_output=True,
                    text=True,
                    timeout=LIMIT_S,
                    env={**os.environ, **REGRESS, "PGAPPNAME": f"isolation/{path.stem}"},
                    check=True,
                ).stdout
        finally:
            admin.execute("DROP DATABASE isolation WITH (FORCE)")


@pytest.mark.server
def test_another_output_is_exit_3_with_the_difference(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "small.spec").write_text(SMALL)
    done = racebench("explore", "small.spec")
    (tmp_path / "small.out").write_text(done.stdout)
    assert racebench("explore", "small.spec", "--diff", "small.out").returncode == 0
    (tmp_path / "small.out").write_text(done.stdout.replace("(1 row)", "(7 rows)"))
    other = racebench("explore", "small.spec", "--diff", "small.out")
    assert other.returncode == 3
    assert "-(7 rows)" in other.stdout
    assert "+(1 row)" in other.stdout


@pytest.mark.server
def test_what_isolationtester_writes_to_stderr_is_part_of_what_is_compared(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "small.spec").write_text(SMALL + "permutation a1\n")
    done = racebench("explore", "small.spec")
    assert done.stderr == "unused step name: b1\n"
    (tmp_path / "small.out").write_text(done.stderr + done.stdout)
    same = racebench("explore", "small.spec", "--diff", "small.out")
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "")
    (tmp_path / "small.out").write_text(done.stdout)
    other = racebench("explore", "small.spec", "--diff", "small.out")
    assert (other.returncode, other.stderr) == (3, "")
    assert "+unused step name: b1" in other.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("explore", "missing.spec"),
            "missing.spec: cannot be read (No such file or directory); name an existing spec",
        ),
        (("explore", "small.spec", "-s", "naive"), "--strategy has no meaning for a spec file; leave it out"),
        (("explore", "small.spec", "--no-save"), "--no-save has no meaning for a spec file"),
        (("explore", "small.spec", "--diff", "no.out"), "no.out: cannot be read"),
        (("explore", "--diff", "no.out"), "--diff needs a spec file"),
        (("explore", "wrong.spec", "--progress", "never"), "wrong.spec:1:1: unexpected character '?'"),
    ],
)
def test_a_users_mistake_is_one_line(
    racebench: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "small.spec").write_text(SMALL)
    (tmp_path / "wrong.spec").write_text("?")
    done = racebench(*arguments)
    assert_one_line(done, 2, message)


@pytest.mark.server
def test_the_benchmark_fails_for_a_difference_without_a_written_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)  # benchmarks/ is not part of the package
    from benchmarks import specs as benchmark

    folder, expected, page = tmp_path / "specs", tmp_path / "expected", tmp_path / "page.md"
    folder.mkdir()
    expected.mkdir()
    output = "unused step name: b1\nParsed test spec with 2 sessions\n\nstarting permutation: a1\nstep a1: "
    output += "INSERT INTO t VALUES (1);\n"
    for name in ("same", "alternative", "differs"):
        (folder / f"{name}.spec").write_text(SMALL + "permutation a1\n")
        (expected / f"{name}.out").write_text(output if name == "same" else "something else\n")
    (expected / "alternative_1.out").write_text(output)
    monkeypatch.setattr(benchmark, "PAGE", page)
    arguments = ["--specs", str(folder), "--results", str(tmp_path / "results")]

    page.write_text("| server | spec | reason |\n|---|---|---|\n| 9.6 | `differs` | Another server. |\n")
    unexplained = CliRunner().invoke(benchmark.main, arguments)
    assert unexplained.exit_code == 1
    assert "2 of 3 specs print what is expected" in unexplained.stdout
    assert "| `differs` | 1 | NOT EXPLAINED |" in unexplained.stdout
    assert (tmp_path / "results" / "differs.1.out").read_text() == output
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"differs.1.out", "differs.1.diff"}

    version = unexplained.stdout.split()[1].rstrip(":")
    page.write_text(f"| {version} | `differs` | The file is wrong. |\n")
    explained = CliRunner().invoke(benchmark.main, arguments)
    assert explained.exit_code == 0, explained.output
    assert "| `differs` | 1 | The file is wrong. |" in explained.stdout

    passed = CliRunner().invoke(benchmark.main, [*arguments, "--only", "same,alternative"])
    assert passed.exit_code == 0, passed.output
    assert "2 of 2 specs print what is expected" in passed.stdout
    nothing = CliRunner().invoke(benchmark.main, [*arguments, "--only", "absent"])
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "has no such spec" in nothing.stderr


# The place


NAMES_THE_DATABASE = """
setup { CREATE ROLE spec_grantee; GRANT CONNECT ON DATABASE isolation_regression TO spec_grantee; }
session s1
step a1 { SELECT current_database(), current_schema(); }
"""
LEAVES_A_PREPARED_TRANSACTION = """
setup { CREATE TABLE t (v int); }
session s1
step a1 { BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left'; }
session s2
step b1 { SELECT gid FROM pg_prepared_xacts; }
"""
#: The table stays in pg_depend, so that no DROP SCHEMA ... CASCADE can succeed.
DAMAGES_THE_CATALOG = """
setup { CREATE TABLE t (v int); }
session s1
step a1 { DELETE FROM pg_class WHERE oid = 't'::regclass; }
step a2 { SELECT count(*) FROM pg_class WHERE relname = 't'; }
"""


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        pytest.param(NAMES_THE_DATABASE, "isolation_regression|public        \n", id="names the database"),
        pytest.param(LEAVES_A_PREPARED_TRANSACTION, "left\n(1 row)", id="leaves a prepared transaction"),
        pytest.param(DAMAGES_THE_CATALOG, "    0\n(1 row)", id="damages the catalog"),
    ],
)
def test_on_the_embedded_server_a_spec_has_the_database_of_pg_isolation_regress(
    embedded: Target, text: str, shows: str
) -> None:
    if text == DAMAGES_THE_CATALOG:
        embedded = as_superuser(embedded)
    before = _in_the_cluster(embedded)
    names = [step.name for session in parse(text, "test.spec").sessions for step in session.steps]
    assert shows in output_of(embedded, text + f"permutation {' '.join(names)}\n")
    assert _in_the_cluster(embedded) == before


def test_a_setup_that_fails_leaves_nothing_on_the_embedded_server(embedded: Target) -> None:
    before = _in_the_cluster(embedded)
    failing = "setup { CREATE ROLE spec_grantee; }\nsetup { CREATE TABLE t (; }\nsession s1\nstep a1 { SELECT 1; }\n"
    with pytest.raises(DatabaseProblem, match="setup failed"):
        output_of(embedded, failing)
    assert _in_the_cluster(embedded) == before


def test_a_database_of_the_user_is_not_taken_for_a_specs(users_server: UsersServer) -> None:
    target = _target(users_server)
    with psycopg.connect(users_server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {DATABASE}")
        try:
            said = f"cannot create the database {DATABASE} on .*already exists; if it is not in use, drop it yourself"
            with pytest.raises(DatabaseProblem, match=said), own_database(target):
                pytest.fail("it was taken")
            assert _in_the_cluster(target)[0] >= {DATABASE}
        finally:
            admin.execute(f"DROP DATABASE {DATABASE}")
        roles = _in_the_cluster(target)
        with own_database(target) as place, psycopg.connect(users_server.dsn(dbname=DATABASE)) as inside:
            assert place.target.parameters["dbname"] == DATABASE
            assert inside.execute("SHOW lc_messages").fetchone() == ("C",)
        assert _in_the_cluster(target) == roles


def test_a_role_that_may_not_configure_the_database_leaves_none(users_server: UsersServer) -> None:
    with psycopg.connect(users_server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE spec_owner LOGIN CREATEDB PASSWORD 'secret'")
        try:
            target = external(users_server.dsn(user="spec_owner", password="secret"))
            with pytest.raises(DatabaseProblem, match="cannot configure the database"), own_database(target):
                pytest.fail("it was configured")
            assert DATABASE not in _in_the_cluster(target)[0]
        finally:
            admin.execute("DROP ROLE spec_owner")


def _in_the_cluster(target: Target) -> tuple[set[str], set[str], set[str]]:
    """The databases, roles and prepared transactions of a server."""
    with connect(target) as connection:
        databases, roles, prepared = (
            {name for (name,) in connection.execute(query).fetchall()}
            for query in (
                "SELECT datname FROM pg_database",
                "SELECT rolname FROM pg_roles",
                "SELECT gid FROM pg_prepared_xacts",
            )
        )
    return databases, roles, prepared


# Trouble under way


def test_a_setup_that_fails_is_said_and_nothing_is_left(users_server: UsersServer, racebench: Command) -> None:
    for where, text in (
        ("setup failed", SMALL.replace("CREATE TABLE t (v int)", "CREATE TABLE t (")),
        ("setup of session s1 failed", SMALL.replace("session s1\n", "session s1 setup { SELECT nothing; }\n")),
    ):
        with pytest.raises(DatabaseProblem, match=where):
            output_of(_target(users_server), text)
        assert _nothing_left(users_server)


def test_a_teardown_that_fails_is_said_and_the_next_permutation_runs(embedded: Target) -> None:
    text = SMALL.replace("DROP TABLE t", "DROP TABLE u; DROP TABLE t") + "permutation a1 b1\n"
    assert 'teardown failed: table "u" does not exist' in output_of(embedded, text)


def test_a_step_that_never_ends_is_named(users_server: UsersServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STEP_LIMIT_S", 3.0)
    text = SMALL.replace("SELECT * FROM t", "SELECT pg_sleep(60)")
    with pytest.raises(DatabaseProblem, match=r"step b1 \(SELECT pg_sleep\(60\);\) did not end in 3 s"):
        output_of(_target(users_server), text)
    wait_for(lambda: _nothing_left(users_server), "the sleeping session stays")


def test_a_step_that_ends_its_session_is_shown_and_the_next_is_named(users_server: UsersServer) -> None:
    text = SMALL.replace("SELECT * FROM t;", "SELECT pg_terminate_backend(pg_backend_pid());")
    said = output_of(_target(users_server), text + "permutation a1 b1\n")
    assert "FATAL:  terminating connection due to administrator command" in said
    more = text + "step b2 { SELECT 2; }\npermutation a1 b1 b2\n"
    with pytest.raises(DatabaseProblem, match=r"step b2 cannot be sent: .*; did an earlier step end the session"):
        output_of(_target(users_server), more)
    assert _nothing_left(users_server)


def test_a_lock_of_another_program_is_named(users_server: UsersServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STEP_LIMIT_S", 3.0)
    text = SMALL.replace("SELECT * FROM t", "SELECT pg_advisory_xact_lock(77)")
    with psycopg.connect(users_server.dsn()) as stranger:
        stranger.execute("SELECT pg_advisory_lock(77)")
        pid = stranger.info.backend_pid
        with pytest.raises(DatabaseProblem, match=f"it waits for session {pid}, which is not of the spec"):
            output_of(_target(users_server), text)
    wait_for(lambda: _nothing_left(users_server), "the waiting session stays")


def test_an_interrupted_spec_leaves_nothing(users_server: UsersServer, start: Start, tmp_path: Path) -> None:
    (tmp_path / "long.spec").write_text(SMALL.replace("SELECT * FROM t", "SELECT pg_sleep(60)"))
    process = start("explore", "long.spec", "--dsn", users_server.dsn())
    with psycopg.connect(users_server.dsn(), autocommit=True) as admin:
        asleep = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_for(lambda: admin.execute(asleep).fetchone() == (True,), "the spec never slept")
        process.terminate()
        _, errors = finish(process)
    assert process.returncode == 130
    assert errors.startswith("racebench: interrupted")
    wait_for(lambda: _nothing_left(users_server), "something is left")


def _target(server: UsersServer) -> Target:
    return external(server.dsn())


def _nothing_left(server: UsersServer) -> bool:
    """Whether no schema of ours and no session of a spec is left on the server."""
    with psycopg.connect(server.dsn()) as connection:
        schemas = connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall()
        sessions = connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'isolation/%' AND state <> 'idle'"
        ).fetchall()
    return not schemas and not sessions


# Writing


WITNESSES = [
    ("naive", ("--consumer", "cursor", "--polls", "2"), "(2 rows)"),
    ("sequence", ("--consumer", "cursor", "--polls", "2"), "(1 row)"),
    ("unique", (), 'ERROR:  duplicate key value violates unique constraint "events_version_unique"'),
    ("unordered-rows", (), "ERROR:  deadlock detected"),
]


@pytest.mark.parametrize(("strategy", "more", "shows"), WITNESSES, ids=[each[0] for each in WITNESSES])
def test_a_witness_is_written_for_isolationtester(
    racebench: Command, users_server: UsersServer, tmp_path: Path, strategy: str, more: tuple[str, ...], shows: str
) -> None:
    where = () if strategy != "unordered-rows" else (str(deadlocking(tmp_path)),)
    found = json.loads(racebench("explore", *where, "-s", strategy, *more, "--no-save", "--json", "-").stdout)
    schedule = found["explorations"][0]["witness"]["schedule"]
    scenario = ("--scenario", *where) if where else ()
    done = racebench("replay", schedule, *scenario, "--export-spec", "witness.spec")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "witness.spec"
    assert racebench("replay", schedule, *scenario, "--export-spec", "-").stdout == path.read_text()
    ours = racebench("explore", "witness.spec", "--dsn", users_server.dsn())
    assert (ours.returncode, ours.stderr) == (0, "")
    assert shows in ours.stdout
    if ISOLATIONTESTER is not None:
        assert isolationtester(users_server, path) == ours.stdout


def deadlocking(folder: Path) -> Path:
    """A scenario of one's own, in which two sessions lock two rows in another order."""
    made = folder / "accounts"
    made.mkdir()
    (made / "scenario.toml").write_text(
        'title = "Transfers"\nsummary = "Rows in another order."\nschema = "schema.sql"\nforbid = ["refused"]\n'
        '[invariants]\nsum = "SELECT 1 WHERE (SELECT sum(v) FROM t) <> 0"\n'
        '[strategies.unordered-rows]\nsummary = "As they come."\nscript = "move.sql"\n'
    )
    (made / "schema.sql").write_text(
        "CREATE TABLE t (id int PRIMARY KEY, v int);\nINSERT INTO t VALUES (1, 0), (2, 0);\n"
    )
    (made / "move.sql").write_text(
        "\\set one :client_id + 1\n\\set other 2 - :client_id\nBEGIN;\n"
        "UPDATE t SET v = v - 1 WHERE id = :one;\nUPDATE t SET v = v + 1 WHERE id = :other;\nCOMMIT;\n"
    )
    return made


@pytest.mark.server
def test_what_a_spec_cannot_hold_is_said(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "brace.sql").write_text("INSERT INTO t VALUES ('}');\n")
    (tmp_path / "schema.sql").write_text("CREATE TABLE t (v text);\n")
    own = ("brace.sql", "--setup", "schema.sql", "--invariant", "SELECT 1 FROM t HAVING count(*) > 1")
    done = racebench("replay", "v1:brace/brace:s1.s1.s1", *own, "--export-spec", "x.spec")
    assert done.returncode == 2
    assert "has a '}' in it, which ends an SQL block in a spec" in done.stderr
    assert not (tmp_path / "x.spec").exists()
