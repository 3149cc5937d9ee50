"""The script language: what is understood, what is refused, and that pgbench agrees."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Branch, Jump, Script, Sleep, Statement
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.embedded import wheel_programs
from racebench.workloads import catalog, expressions, scripts


def parse(text: str) -> Script:
    return scripts.parse(text, Path("s.sql"))


def statements(text: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(step.sql, step.parameters) for step in parse(text).statements]


def test_variables_become_parameters_each_once() -> None:
    assert statements("UPDATE t SET a = :x, b = :y WHERE c = :x;") == [
        ("UPDATE t SET a = $1, b = $2 WHERE c = $1", ("x", "y"))
    ]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ':x'",
        "SELECT E'it\\'s :x'",
        'SELECT 1 AS ":x"',
        "SELECT $$ :x; $$",
        "SELECT $q$ ; :x $$ $q$",
        "SELECT 'a''; :x'",
        "SELECT now()::date",
        "SELECT a[1:2] FROM t",
    ],
)
def test_quotes_and_casts_hold_no_variables_and_no_ends(text: str) -> None:
    assert statements(text + ";") == [(text, ())]


def test_comments_are_dropped_and_may_hold_anything() -> None:
    assert statements("-- it's :x;\nSELECT 1 /* ; ' /* nested */ :y */ + 2; -- end") == [("SELECT 1  + 2", ())]


def test_gset_ends_a_statement_and_keeps_its_prefix() -> None:
    one, two = parse("SELECT 1 AS a \\gset p_\nSELECT 2 AS b \\aset\n").statements
    assert (one.gset, one.aset, two.gset, two.aset) == ("p_", None, None, "")


def test_a_last_statement_needs_no_semicolon() -> None:
    assert statements("SELECT 1;\nSELECT 2\n") == [("SELECT 1", ()), ("SELECT 2", ())]


def test_a_semicolon_in_parentheses_is_not_an_end() -> None:
    assert statements("SELECT (1;2);") == [("SELECT (1;2)", ())]


def test_if_elif_else_jump_over_what_they_do_not_choose() -> None:
    steps = parse("\\if :a\nSELECT 1;\n\\elif :b\nSELECT 2;\n\\else\nSELECT 3;\n\\endif\nSELECT 4;").steps
    assert [type(step) for step in steps] == [Branch, Statement, Jump, Branch, Statement, Jump, Statement, Statement]
    assert isinstance(steps[0], Branch)
    assert steps[0].otherwise == 3
    assert isinstance(steps[2], Jump)
    assert steps[2].to == 7
    assert isinstance(steps[3], Branch)
    assert steps[3].otherwise == 6


def test_sleep_takes_a_variable_and_a_unit_and_seconds_by_default() -> None:
    sleeps = [step for step in parse("\\sleep :x us\n\\sleep 2\nSELECT 1;").steps if isinstance(step, Sleep)]
    assert [(step.amount, step.unit_us) for step in sleeps] == [("x", 1), (2, 1_000_000)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1;\n\\shell ls", r"s.sql:2: \shell is not supported"),
        ("SELECT 1\n\\gexec", r"s.sql:2: \gexec is not supported"),
        ("SELECT 1 \\; SELECT 2;", r"s.sql:1: \; is not supported"),
        ("\\startpipeline\nSELECT 1;", r"s.sql:1: \startpipeline without \endpipeline"),
        ("\\endpipeline\nSELECT 1;", r"s.sql:1: \endpipeline without \startpipeline"),
        ("\\startpipeline\n\\startpipeline\nSELECT 1;", r"s.sql:2: \startpipeline inside a pipeline"),
        ("\\startpipeline\nSELECT 1 \\gset\n\\endpipeline", r"s.sql:2: \gset is not allowed in a pipeline"),
        ("\\startpipeline\n\\if 1\n", r"s.sql:2: \if inside a pipeline is not supported"),
        ("SELECT 1\n\\sleep 1\n;", r"s.sql:2: \sleep inside a statement"),
        ("\\gset\n", r"s.sql:1: \gset without a statement"),
        ("\\set x 1 +\nSELECT 1;", "s.sql:1: in the expression '1 +'"),
        ("\\set x hash(1)\nSELECT 1;", "function 'hash' is not supported"),
        ("\\set x\nSELECT 1;", r"s.sql:1: \set takes a name and an expression"),
        ("\\sleep soon\nSELECT 1;", r"s.sql:1: \sleep takes a number"),
        ("\n\n\\if 1\nSELECT 1;", r"s.sql:3: \if without \endif"),
        ("\\else\nSELECT 1;", r"s.sql:1: \else without \if"),
        ("\\if 1\n\\else\n\\else\n\\endif\nSELECT 1;", r"s.sql:3: \else after \else"),
        ("BEGIN;\ncopy t FROM stdin;", "s.sql:2: COPY is not supported in a script"),
        ("SELECT 'a;\n", "s.sql:1: a quoted part is never closed"),
        ("SELECT 1 /* ;\n", "s.sql:1: a comment is never closed"),
        ("SELECT (1;\n", "s.sql:1: a parenthesis is never closed"),
        ("-- nothing\n", "s.sql:1: the script has no SQL statement"),
    ],
)
def test_what_is_not_understood_is_refused_by_name_and_line(text: str, message: str) -> None:
    with pytest.raises(ScenarioProblem) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet=":;'\"$\\-/*()eE \nabx\x00é", max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    refusal = "s.sql:"
    try:
        parse(text)
    except ScenarioProblem as problem:
        refusal = str(problem)
    assert refusal.startswith("s.sql:")


EXPRESSIONS = [
    "1 + 2 * 3",
    "(1 + 2) * 3",
    "-7 / 2",
    "7 / -2",
    "-7 % 3",
    "7 % -3",
    "mod(-7, 3)",
    "7.0 / 2",
    "1 - -1",
    "abs(-3) + greatest(1, 5, 2) - least(4, 2)",
    "int(3.9)",
    "int(2.5) + int(-3.5)",
    "double(3) / 2",
    "sqrt(16)",
    "power(2, 10)",
    "1 < 2 and not 2 < 1",
    "1 = 1.0 or 1 / 0 = 1",
    "null is null",
    "3 is not null",
    "(1 > 2) is false",
    "2 <> 3",
    "exp(0) + ln(1) + pi() * 0",
    "5 - 3 - 1",
]


def test_expressions_mean_what_pgbench_means(embedded: Target, tmp_path: Path) -> None:
    lines = [f"\\set x{n} {text}\n" for n, text in enumerate(EXPRESSIONS)]
    lines += [f"INSERT INTO pgbench_says VALUES ({n}, :x{n}::text);\n" for n in range(len(EXPRESSIONS))]
    with connect(embedded) as connection:
        connection.execute("DROP TABLE IF EXISTS pgbench_says")
        connection.execute("CREATE TABLE pgbench_says (n int, value text)")
        run_pgbench(embedded, tmp_path, "".join(lines), "public")
        theirs = [row[0] for row in connection.execute("SELECT value FROM pgbench_says ORDER BY n")]
        connection.execute("DROP TABLE pgbench_says")
    ours = [expressions.evaluate(expressions.parse(text), {}, Random(1)) for text in EXPRESSIONS]
    assert len(theirs) == len(ours)
    for text, mine, other in zip(EXPRESSIONS, ours, theirs, strict=True):
        if isinstance(mine, bool):
            assert other in (("true", "t") if mine else ("false", "f")), text
        else:
            assert float(other) == pytest.approx(float(mine or 0)), text


@pytest.mark.parametrize("text", ["1 / 0", "mod(1, 0)", ":nothing + 1", ":word + 1", "random(1.5, 2)", "sqrt(-1)"])
def test_what_cannot_be_evaluated_is_an_error(text: str) -> None:
    with pytest.raises(expressions.ExpressionError):
        expressions.evaluate(expressions.parse(text), {"word": b"abc"}, Random(1))


@given(st.integers(-50, 50), st.integers(0, 50), st.integers())
def test_random_stays_in_its_range(low: int, width: int, seed: int) -> None:
    for call in ("random(:a, :b)", "random_gaussian(:a, :b, 2.5)", "random_exponential(:a, :b, 3)"):
        variables = {"a": b"%d" % low, "b": b"%d" % (low + width)}
        value = expressions.evaluate(expressions.parse(call), variables, Random(seed))
        assert isinstance(value, int)
        assert low <= value <= low + width


def run_pgbench(
    target: Target, folder: Path, text: str, schema: str, *variables: str, protocol: str = "prepared"
) -> str:
    """Run a script once under the wheel's own pgbench."""
    file = folder / "script.sql"
    file.write_text(text)
    done = subprocess.run(
        [
            str(wheel_programs(18) / "pgbench"),
            *("--no-vacuum", f"--protocol={protocol}", "--transactions=1", f"--file={file}"),
            *(f"--define={variable}" for variable in variables),
            f"host={target.parameters['host']} port={target.parameters['port']} user=postgres dbname=postgres",
        ],
        env={"PGOPTIONS": f"-c search_path={schema}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("scenario", "strategy"),
    [(scenario.name, name) for scenario in catalog.shipped() for name in scenario.strategies],
)
def test_every_shipped_script_runs_under_pgbench_unchanged(
    embedded: Target, tmp_path: Path, scenario: str, strategy: str
) -> None:
    folder = catalog.find_scenario(scenario)
    chosen = folder.strategies[strategy]
    with connect(embedded, schema="by_pgbench") as connection:
        connection.execute("DROP SCHEMA IF EXISTS by_pgbench CASCADE")
        connection.execute("CREATE SCHEMA by_pgbench")
        for part in (*folder.schema, *chosen.schema):
            connection.execute(part.text.encode())
        before = _rows(connection, folder)
        said = run_pgbench(
            embedded,
            tmp_path,
            chosen.script.text,
            "by_pgbench",
            *("tenant=1", "operation=0", "think=0", "hold=0"),
            protocol="simple" if chosen.text else "prepared",
        )
        after = _rows(connection, folder)
        connection.execute("DROP SCHEMA by_pgbench CASCADE")
    assert "number of transactions actually processed: 1/1" in said
    assert after == before + (folder.rows is not None)


def _rows(connection: psycopg.Connection[tuple[object, ...]], scenario: catalog.Scenario) -> int:
    """How many numbered rows there are."""
    if scenario.rows is None:
        return 0
    row = connection.execute(f"SELECT count(*) FROM {scenario.rows.table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(str(row[0]))
