"""A verdict says which functions run several statements inside one step, and only those that the sessions run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import Command
from racebench.api import Bench, Exploration
from racebench.core.verdict import Verdict
from racebench.exploration.inner_statements import statements_in

Call = Callable[[psycopg.Connection[Any]], None]

SCHEMA = """
CREATE TABLE stock (item int PRIMARY KEY, n int NOT NULL);
INSERT INTO stock VALUES (1, 0), (2, 0);
CREATE TABLE quiet (n int);
CREATE TABLE loud (n int);
CREATE FUNCTION reads_twice() RETURNS bool LANGUAGE plpgsql AS $$
DECLARE one int; other int;
BEGIN
  SELECT sum(n) INTO one FROM stock;
  SELECT sum(n) INTO other FROM stock;
  RETURN one = other;
END $$;
CREATE FUNCTION reads_steadily() RETURNS bool STABLE LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM stock;
  RETURN (SELECT sum(n) >= 0 FROM stock);
END $$;
CREATE FUNCTION reads_once() RETURNS bigint LANGUAGE sql AS 'SELECT sum(n) FROM stock';
CREATE FUNCTION calls_twice() RETURNS bigint LANGUAGE sql AS 'SELECT reads_once() + reads_once()';
CREATE FUNCTION calls_deeper() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT calls_twice()); END';
CREATE PROCEDURE writes_both() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..2 LOOP UPDATE stock SET n = n + 1 WHERE item = i; END LOOP;
END $$;
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM quiet) THEN DELETE FROM quiet; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER t BEFORE INSERT ON loud FOR EACH ROW EXECUTE FUNCTION fires();
"""


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def sending(text: str) -> Call:
    def send(connection: psycopg.Connection[Any]) -> None:
        connection.execute(text.encode())
        connection.commit()

    return send


@pytest.mark.server
@pytest.mark.parametrize(
    ("text", "functions"),
    [
        ("SELECT reads_twice()", ("reads_twice",)),
        ("SELECT reads_steadily()", ()),
        ("SELECT reads_once()", ()),
        ("SELECT calls_twice()", ("calls_twice",)),
        ("SELECT calls_deeper()", ("calls_deeper", "calls_twice")),
        ("CALL writes_both()", ("writes_both",)),
        ("INSERT INTO loud VALUES (1)", ("fires",)),
        ("INSERT INTO quiet VALUES (1)", ()),
    ],
)
def test_functions_that_a_call_runs_and_that_have_several_statements_are_named(
    bench: Bench, text: str, functions: tuple[str, ...]
) -> None:
    found = bench.explore(sending(text), sending("UPDATE stock SET n = n"), setup=SCHEMA, invariant=())
    assert isinstance(found, Exploration)
    assert found.verdict is Verdict.VALID
    assert found.result.functions == functions
    said = " ".join(str(found).split())
    assert (f"function {', '.join(functions)} does is inside one" in said) == bool(functions)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("BEGIN NEW.n := NEW.n + 1; RETURN NEW; END", 0),
        ("BEGIN RETURN (SELECT 1 FROM t WHERE x IN (SELECT y FROM u)); END", 1),
        ("BEGIN INSERT INTO t SELECT * FROM u; END", 1),
        ("BEGIN IF EXISTS (SELECT FROM t) THEN RETURN 1; ELSE DELETE FROM t; END IF; END", 2),
        ("BEGIN FOR r IN SELECT * FROM t LOOP n := n + 1; END LOOP; END", 1),
        ("BEGIN WHILE n < 5 LOOP UPDATE t SET n = 1; END LOOP; END", 2),
        ("BEGIN LOOP EXIT; END LOOP; UPDATE t SET n = 1; END", 1),
        ("SELECT 1; -- SELECT 2;\n/* SELECT 3; */", 1),
        ("SELECT 'unclosed; SELECT 2", 2),
    ],
)
def test_the_statements_in_a_body(body: str, count: int) -> None:
    assert statements_in(body) == count


@pytest.mark.server
def test_a_script_that_calls_such_a_function_is_valid_with_the_remark(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "call.sql").write_text("SELECT reads_twice();\n")
    (tmp_path / "schema.sql").write_text(SCHEMA)
    arguments = ["./call.sql", "--setup", "schema.sql", "--invariant", "SELECT 1 WHERE false", "--no-save"]
    done = racebench("explore", *arguments, "--json", "r.json")
    assert done.returncode == 0, done.stderr
    assert "what trigger t and function reads_twice does is inside one" in " ".join(done.stdout.split())
    (document,) = json.loads((tmp_path / "r.json").read_text())["explorations"]
    assert document["verdict"] == "VALID"
    assert document["explored"]["functions"] == ["reads_twice"]
    assert "reads_twice does is inside one" in " ".join(racebench("report", "r.json").stdout.split())
