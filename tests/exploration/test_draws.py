"""Random numbers and clocks: the same in every schedule, and a verdict that says how many choices of them it is of."""

from __future__ import annotations

import json
import math
import random
import secrets
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import randint
from typing import Any

import numpy as np
import psycopg
import pytest

from conftest import Command
from racebench.api import Bench, Exploration, Search
from racebench.core.verdict import Verdict
from racebench.exploration import request, schedules
from racebench.exploration.draws import Draws, in_script, in_sql, remarks
from racebench.exploration.result import Limit, Unseen
from racebench.workloads import scripts

Call = Callable[[psycopg.Connection[Any]], None]

SCHEMA = """
CREATE TABLE stock (item int PRIMARY KEY, n int NOT NULL);
INSERT INTO stock VALUES (1, 0);
CREATE TABLE keys (id uuid PRIMARY KEY);
"""
LOST = "SELECT 'one update is lost' FROM stock WHERE n = 1"
OWN = random.Random()
OWN_OF_NUMPY = np.random.default_rng()


def racy(connection: psycopg.Connection[Any]) -> None:
    (n,) = connection.execute("SELECT n FROM stock").fetchone() or (0,)
    connection.execute("UPDATE stock SET n = %s", [n + 1])
    connection.commit()


def right(connection: psycopg.Connection[Any]) -> None:
    connection.execute("UPDATE stock SET n = n + 1")
    connection.commit()


def lottery(connection: psycopg.Connection[Any]) -> None:
    (racy if random.random() < 0.05 else right)(connection)


def imported(connection: psycopg.Connection[Any]) -> None:
    (racy if randint(1, 20) == 1 else right)(connection)


def secret(connection: psycopg.Connection[Any]) -> None:
    (racy if secrets.randbelow(20) == 1 else right)(connection)


def own_generator(connection: psycopg.Connection[Any]) -> None:
    (racy if OWN.random() < 0.05 else right)(connection)


def of_numpy(connection: psycopg.Connection[Any]) -> None:
    (racy if np.random.random() > 0.95 else right)(connection)


def new_of_numpy(connection: psycopg.Connection[Any]) -> None:
    (racy if np.random.default_rng().random() < 0.05 else right)(connection)


def own_of_numpy(connection: psycopg.Connection[Any]) -> None:
    (racy if OWN_OF_NUMPY.random() > 0.95 else right)(connection)


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def explored(bench: Bench, *calls: Call, draws: int = 1, invariant: str | tuple[()] = LOST) -> Exploration:
    found = bench.explore(*calls, setup=SCHEMA, invariant=invariant, budget=math.inf, search=Search(draws=draws))
    assert isinstance(found, Exploration)
    assert found.complete
    return found


@pytest.mark.server
@pytest.mark.parametrize("call", [lottery, imported, secret, own_generator, of_numpy, new_of_numpy, own_of_numpy])
def test_a_race_in_one_of_twenty_calls_is_not_acquitted_and_found_with_more_draws(bench: Bench, call: Call) -> None:
    one = explored(bench, call)
    assert (one.verdict, one.result.unseen, one.result.draws) == (Verdict.UNKNOWN, Unseen.RANDOM, 1)
    assert "with one choice of random numbers" in " ".join(str(one).split())
    assert "test_draws.py" in " ".join(one.result.notes)

    if call is lottery:
        many = explored(bench, call, draws=60)
        assert many.result.draws == 60
        assert many.run >= 60 * 2
    else:
        search = Search(draws=60)
        many = bench.explore(call, setup=SCHEMA, invariant=LOST, budget=math.inf, stop_at_first=True, search=search)
    assert many.verdict is Verdict.INVALID
    assert many.schedule is not None
    assert schedules.parse(str(many.schedule)).draw > 0
    again = bench.replay(call, schedule=str(many.schedule), setup=SCHEMA, invariant=LOST)
    assert again.counts["violations"] == 1


@pytest.mark.server
def test_calls_that_draw_but_are_right_are_valid_for_the_choices_that_were_explored(bench: Bench) -> None:
    def careful(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT FROM stock FOR UPDATE")
        lottery(connection)

    found = explored(bench, careful, draws=20)
    assert found.verdict is Verdict.VALID
    assert "with 20 choices of random numbers" in " ".join(str(found).split())


@pytest.mark.server
def test_limits_are_shared_among_the_choices_of_random_numbers(bench: Bench) -> None:
    def careful(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT FROM stock FOR UPDATE")
        lottery(connection)

    for limit in ({"max_schedules": 40}, {"budget": 0.5}):
        found = bench.explore(careful, setup=SCHEMA, invariant=LOST, search=Search(draws=100_000), **limit)  # type: ignore[arg-type]
        assert isinstance(found, Exploration)
        assert (found.verdict, found.complete) == (Verdict.UNKNOWN, False)
        assert 1 < found.result.draws < 1000
        assert found.run <= 40 or "budget" in limit


@pytest.mark.server
def test_a_search_that_ends_between_two_choices_of_random_numbers_is_not_complete(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(connection: psycopg.Connection[Any]) -> None:
        random.random()
        racy(connection)

    one = explored(bench, drawn)
    monkeypatch.setattr(request, "ENOUGH", 2 * one.run)
    found = bench.explore(drawn, setup=SCHEMA, invariant=LOST, search=Search(draws=20))
    assert (found.verdict, found.complete, found.result.limit) == (Verdict.INVALID, False, Limit.ENOUGH)
    assert (found.result.draws, found.run) == (2, 2 * one.run)


@pytest.mark.server
def test_calls_that_draw_nothing_are_explored_once(bench: Bench) -> None:
    found = explored(bench, right, draws=20)
    assert (found.verdict, found.result.draws) == (Verdict.VALID, 0)
    assert found.run == explored(bench, right).run
    assert "random" not in str(found)


@pytest.mark.server
def test_a_generator_with_a_seed_of_its_own_is_no_choice(bench: Bench) -> None:
    def fixed(connection: psycopg.Connection[Any]) -> None:
        (racy if random.Random(4).random() < 0.05 else right)(connection)

    found = explored(bench, fixed)
    assert (found.verdict, found.result.draws) == (Verdict.VALID, 0)


@pytest.mark.server
def test_keys_of_random_numbers_do_not_collide(bench: Bench) -> None:
    def insert(connection: psycopg.Connection[Any]) -> None:
        connection.execute("INSERT INTO keys VALUES (%s)", [uuid.uuid4()])
        connection.execute("INSERT INTO keys VALUES (%s)", [uuid.UUID(hex=secrets.token_hex(16))])
        connection.commit()

    found = explored(bench, insert, invariant=())
    assert found.verdict is Verdict.VALID
    assert "with one choice of random numbers" in " ".join(str(found).split())


@pytest.mark.server
def test_a_back_off_with_jitter_is_no_reason_for_doubt(bench: Bench) -> None:
    def retries(connection: psycopg.Connection[Any]) -> None:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        for attempt in range(5):
            try:
                return racy(connection)
            except psycopg.errors.SerializationFailure:
                connection.rollback()
                pause = 0.1 * 2**attempt
                pause += random.uniform(0, 0.1)
                time.sleep(pause)
        raise TimeoutError

    found = explored(bench, retries)
    assert (found.verdict, found.result.draws) == (Verdict.VALID, 0)
    assert "only set the length of pauses" in " ".join(found.result.notes)


def in_schedules(drawn: dict[str, list[Any]]) -> list[set[Any]]:
    """What each call drew in schedules: without the two times that it ran alone, when its generators were found."""
    assert all(len(values) > 3 for values in drawn.values())
    return [set(values[2:]) for values in drawn.values()]


@pytest.mark.server
def test_a_session_draws_the_same_in_every_schedule_and_sessions_do_not(bench: Bench) -> None:
    drawn: dict[str, list[tuple[object, ...]]] = defaultdict(list)

    def drawing(name: str) -> Call:
        def draw(connection: psycopg.Connection[Any]) -> None:
            begun = time.monotonic()
            first = (random.random(), OWN.gauss(), randint(1, 10**9), secrets.token_hex(4), np.random.random())
            first = (*first, OWN_OF_NUMPY.random(), np.random.default_rng().random())
            racy(connection)
            turns = 0
            while time.monotonic() < begun + 2:
                time.sleep(0.5)
                turns += 1
            drawn[name].append((*first, random.random(), uuid.uuid4(), random.Random().random(), turns))

        return draw

    before = random.getstate()
    found = explored(bench, drawing("one"), drawing("other"))
    assert random.getstate() == before
    assert found.verdict is Verdict.INVALID
    (one,), (other,) = in_schedules(drawn)
    assert not set(one[:-1]) & set(other[:-1])
    assert one[-1] == other[-1] == 4


@pytest.mark.server
def test_reading_the_time_of_day_is_noted(bench: Bench) -> None:
    def stamp(connection: psycopg.Connection[Any]) -> None:
        assert time.time() > 0
        right(connection)

    found = explored(bench, stamp)
    assert found.verdict is Verdict.VALID
    assert "the time of day is read (tests/exploration/test_draws.py" in str(found).replace("\n", " ")
    assert "the time of day" not in str(explored(bench, right))


@pytest.mark.server
def test_random_numbers_of_the_server_are_seeded_and_may_decide(bench: Bench) -> None:
    drawn: dict[str, list[object]] = defaultdict(list)

    def drawing(name: str) -> Call:
        def draw(connection: psycopg.Connection[Any]) -> None:
            drawn[name].append(connection.execute("SELECT random() FROM stock").fetchone())
            right(connection)

        return draw

    found = explored(bench, drawing("one"), drawing("other"))
    assert (found.verdict, found.result.unseen) == (Verdict.UNKNOWN, Unseen.RANDOM)
    (one,), (other,) = in_schedules(drawn)
    assert one != other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT random()", ["server"]),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", ["server"]),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10) REPEATABLE (1)", []),
        ("SELECT pg_sleep(0.1 * random())", []),
        ("SELECT pg_sleep(random()), random()", ["server"]),
        ("SELECT my.random(), randomly(), :random", []),
        ("INSERT INTO t VALUES (gen_random_uuid())", ["unseeded"]),
        ("SELECT clock_timestamp()", ["clocks"]),
    ],
)
def test_what_sql_draws(text: str, expected: list[str]) -> None:
    draws = in_sql([text])
    assert [name for name in type(draws).__slots__ if getattr(draws, name)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\set n random(1, 9)\nSELECT :n;", ["values"]),
        ("\\set n random(1, 9)\n\\set m :n + 1\n\\if :m > 2\nSELECT 1;\n\\endif\nSELECT :n;", ["choices"]),
        ("\\set n random(1, 9)\n\\sleep :n ms\nSELECT 1;", ["pauses"]),
        ("\\set n 4\nSELECT :n;", []),
    ],
)
def test_what_a_script_draws(text: str, expected: list[str]) -> None:
    draws = in_script(scripts.parse(text, Path("s.sql")))
    assert [name for name in type(draws).__slots__ if getattr(draws, name)] == expected


def test_a_schedule_names_its_draw() -> None:
    text = "v1:shop/buy[0123abcd~12]:s1.s2"
    parsed = schedules.parse(text)
    assert (parsed.draw, parsed.digest, str(parsed)) == (12, "0123abcd", text)
    assert schedules.parse_steps(text) == ("0123abcd", 12, (1, 2))
    assert schedules.parse_steps("v1:a/b[0123abcd]:s1") == ("0123abcd", 0, (1,))


# What is only a pause


def paused_at_once() -> None:
    time.sleep(random.random())


def paused_later(attempt: int = 1) -> None:
    jitter = random.uniform(0, 1)
    pause: float = min(2.0, 2**attempt + jitter)
    time.sleep(pause)


def paused_and_returned() -> float:
    pause = random.random()
    time.sleep(pause)
    return pause


def paused_or_not() -> None:
    pause = random.random()
    if pause > 0.5:
        time.sleep(pause)


def slept_on_the_side() -> None:
    time.sleep(1 if random.random() < 0.5 else 2)


@pytest.mark.server
@pytest.mark.parametrize(
    ("pause", "only"),
    [
        (paused_at_once, True),
        (paused_later, True),
        (paused_and_returned, False),
        (paused_or_not, False),
        (slept_on_the_side, False),
    ],
)
def test_a_number_is_a_pause_only_if_it_reaches_nothing_but_a_sleep(
    bench: Bench, pause: Callable[[], object], only: bool
) -> None:
    def call(connection: psycopg.Connection[Any]) -> None:
        pause()
        right(connection)

    found = explored(bench, call)
    assert found.verdict is (Verdict.VALID if only else Verdict.UNKNOWN)


# On the command line and in reports

MODULE = """
import random

def buy(connection):
    with connection.transaction():
        if random.random() < 0.05:
            (n,) = connection.execute("SELECT n FROM stock").fetchone()
            connection.execute("UPDATE stock SET n = %s", [n + 1])
        else:
            connection.execute("UPDATE stock SET n = n + 1")
"""


@pytest.mark.server
def test_every_report_says_of_how_many_choices_a_verdict_is(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "drawing_shop.py").write_text(MODULE)
    files = {"junit": "r.xml", "markdown": "r.md", "summary": "r.summary"}
    reports = [part for name, path in files.items() for part in ("--report", f"{name}={path}")]
    arguments = ["--call", "drawing_shop:buy", "--setup", SCHEMA, "--invariant", LOST, "--no-save"]
    valid = racebench("explore", *arguments, "--draws", "2", "--json", "r.json", *reports)
    assert valid.returncode == 0, valid.stdout + valid.stderr
    said = "with 2 choices of random numbers"
    assert said in " ".join(valid.stdout.split())
    assert racebench("report", "r.json", "--html", "r.html").returncode == 0
    for path in (*files.values(), "r.html"):
        assert said in " ".join((tmp_path / path).read_text().split()), path
    (document,) = json.loads((tmp_path / "r.json").read_text())["explorations"]
    assert document["explored"]["draws"] == 2
    assert any("2 choices of them were explored" in note for note in document["notes"])

    unknown = racebench("explore", *arguments)
    assert unknown.returncode == 5
    assert "Explore more with --draws N" in " ".join(unknown.stdout.split())

    invalid = racebench("explore", *arguments, "--draws", "60", "--fail-on", "violations", "--json", "r.json")
    assert invalid.returncode == 3
    (document,) = json.loads((tmp_path / "r.json").read_text())["explorations"]
    assert "~" in document["witness"]["schedule"]
    replayed = racebench("replay", document["witness"]["schedule"], *arguments[:-1], "--fail-on", "violations")
    assert replayed.returncode == 3, replayed.stdout + replayed.stderr


def test_a_place_that_two_sessions_know_differently_well_is_named_once() -> None:
    known = "by a name imported from the module random"
    draws = Draws(choices={known, "shop.py:3"}, names={f"{known}, or by another thread"})
    assert remarks(draws, 1)[0].startswith(f"random numbers are drawn ({known}, or by another thread, shop.py:3); one")
    assert remarks(Draws(choices={known}), 1)[0].startswith(f"random numbers are drawn ({known}); one")
