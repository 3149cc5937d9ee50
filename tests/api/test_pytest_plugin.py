"""The pytest fixtures as a project uses them: in a pytest of its own, with the examples and with pytest-xdist."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from conftest import UsersServer
from waiting import LIMIT_S, finish, wait_for
from warm import Warm

EXAMPLES = Path(__file__).parents[2] / "examples"

ORDERS = """
SCHEMA = "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int NOT NULL)"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"

def create_order(connection):
    with connection.transaction():
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
"""


#: Nothing of this project's settings.
OPTIONS = ("-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", os.devnull)
#: No other plugin of this environment: pytest rewrites all of Hypothesis, for one.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PLUGIN = ("-p", "racebench.pytest_plugin")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_pytest(warm: Warm) -> Run:
    """Run pytest with racebench's plugin alone in a project's folder, as a fork of a process that has both imported."""

    def run(
        folder: Path, *arguments: str, env: dict[str, str] | None = None, options: Sequence[str] = OPTIONS
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **ALONE, **(env or {})}
        return warm.run((*options, *PLUGIN, *arguments), folder, environment, module="pytest")

    return run


def run_in_new_process(folder: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


@pytest.mark.server
@pytest.mark.parametrize("name", ["psycopg", "sqlalchemy", "django", "fastapi"])
def test_an_example_runs_where_it_lies_and_its_race_is_found(name: str, run_pytest: Run) -> None:
    """That of psycopg as a user runs it; the others beside no other plugin, which takes half the time."""
    pytest.importorskip(name)
    options = ("-q", "-p", "no:cacheprovider")
    if name == "psycopg":
        clean = {"PYTHONDONTWRITEBYTECODE": "1"}
        done = run_in_new_process(EXAMPLES / name, *options, "--runxfail", env=clean)
    else:
        done = run_pytest(EXAMPLES / name, "-rx", options=options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "::test_create_order_is_race_free" in done.stdout
        assert "meant to fail; pytest --runxfail shows the race" in done.stdout
        return
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "test_create_order_is_race_free" in done.stdout
    assert re.search(r"RaceFound: create_order: \d of \d schedules break the invariant \(number = 1\)", done.stdout)
    assert "INSERT INTO " in done.stdout
    assert "[1]" in done.stdout or "=1" in done.stdout  # the values that travelled
    assert "assert_clean" not in done.stdout  # nothing of racebench's inside
    assert "orders.py:" in done.stdout


@pytest.mark.server
def test_a_function_made_in_a_test_of_djangos_models_is_hammered(tmp_path: Path, run_pytest: Run) -> None:
    project = tmp_path / "django"
    shutil.copytree(EXAMPLES / "django", project)
    (project / "test_shop.py").rename(project / "common.py")
    (project / "test_made.py").write_text(
        "from common import duplicates, shop\n"
        "def test_it(racebench, shop):\n"
        "    def create():\n"
        "        from shop.models import create_order_fixed\n"
        "        create_order_fixed()\n"
        "    racebench.hammer(create, workers=2, operations=20, invariant=duplicates)\n"
    )
    done = run_pytest(project)
    assert done.returncode == 0, done.stdout


@pytest.mark.server
def test_a_failure_begins_with_the_finding_and_is_replayed_from_the_test(tmp_path: Path, run_pytest: Run) -> None:
    (tmp_path / "test_orders.py").write_text(
        ORDERS + "\ndef test_it(racebench):\n    racebench.explore(create_order, setup=SCHEMA, invariant=TWINS)\n"
    )
    done = run_pytest(tmp_path, env={"COLUMNS": "120", "GITHUB_ACTIONS": "true"})
    assert done.returncode == 1
    (annotation,) = [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert annotation.startswith("::error file=test_orders.py,line=8,title=racebench%3A violations in test_orders%3A")
    found = "create_order: 3 of 4 schedules break the invariant (number = 1)"
    assert f"FAILED test_orders.py::test_it - {found}\n" in done.stdout
    said = [line.removeprefix("E").strip() for line in done.stdout.splitlines() if line.startswith("E ")]
    assert said[0] == f"racebench.RaceFound: {found}"
    places = [next(place for place, line in enumerate(said) if part in line) for part in ("s1 ", "strategy ", "fix: ")]
    assert places == sorted(places)  # the lanes, the figures, the next step
    assert "INSERT INTO orders (number) VALUES (%s) [1]" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "v1:" not in line) <= 120  # nor the annotation
    assert said[-2].startswith("racebench.replay(create_order, setup=…, invariant=…, schedule='v1:")
    assert re.search(r"^racebench replay 'v1:.* --call .* --setup .* --invariant ", said[-1])
    assert not re.search(r"^\S*racebench\S*\.py:\d+", done.stdout, re.MULTILINE)  # no frame of racebench's
    (schedule,) = {word.strip("'") for word in done.stdout.split() if word.startswith("'v1:")}
    assert "test_orders.py:7" in done.stdout
    assert "--call test_orders:create_order" in done.stdout
    (tmp_path / "test_again.py").write_text(
        "from test_orders import *\ndef test_it(racebench):\n"
        f"    racebench.replay(create_order, setup=SCHEMA, invariant=TWINS, schedule={schedule!r})\n"
    )
    again = run_pytest(tmp_path, "test_again.py")
    assert again.returncode == 1
    assert "create_order: 1 violation" in again.stdout
    assert "\n::" not in again.stdout, "it is no step of a workflow"


@pytest.mark.server
def test_a_setup_and_an_invariant_hold_for_the_rest_of_the_test(tmp_path: Path, run_pytest: Run) -> None:
    (tmp_path / "test_orders.py").write_text(
        ORDERS
        + "\ndef twice(connection):\n    create_order(connection)\n    create_order(connection)\n"
        + "import pytest\nfrom racebench import RaceFound, VerdictUnknown\ndef test_it(racebench):\n"
        + "    with pytest.raises(RaceFound):\n"
        + "        racebench.explore(create_order, setup=SCHEMA, invariant=TWINS)\n"
        + "    with pytest.raises(RaceFound, match='^create_order: [0-9,]+ violations in [0-9,]+ operations under'):\n"
        + "        racebench.hammer(create_order, workers=4, operations=400)\n"
        + "    with pytest.raises(RaceFound, match='create_order is INVALID'):\n"
        + "        racebench.compare(create_order, twice, rounds=2, operations=100)\n"
        + "    pressed = racebench.hammer(create_order, workers=4, operations=400, check=False)\n"
        + "    with pytest.raises(RaceFound, match='is broken by'):\n"
        + "        pressed.assert_clean()\n"
        + "    with pytest.raises(VerdictUnknown, match='^create_order: UNKNOWN, 1 schedule was run') as caught:\n"
        + "        racebench.explore(create_order, max_schedules=1)\n"
        + "    assert '--' not in str(caught.value)\n"
        + "    assert 'next: give it a larger max_schedules' in str(caught.value)\n"
        + "    assert 'more schedules: raise max_schedules' in ' '.join(str(caught.value).split())\n"
        + "def test_another(racebench):\n"
        + "    with pytest.raises(RaceFound, match='end as no serial order does'):\n"
        + "        racebench.explore(create_order, setup=SCHEMA)\n"
        + "    racebench.hammer(create_order, setup=SCHEMA, workers=2, operations=8)\n"
        + "def test_errors_alone(racebench):\n"
        + "    racebench.hammer(create_order, setup=SCHEMA, workers=2, operations=8, invariant=())\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "3 passed, 1 warning" in done.stdout
    assert "no invariant is given, so only errors are looked for" in done.stdout


@pytest.mark.server
def test_a_mistake_is_one_line(tmp_path: Path, run_pytest: Run) -> None:
    (tmp_path / "test_orders.py").write_text(
        "def wrong(one, two): pass\ndef test_it(racebench):\n    racebench.explore(wrong)\n"
        "def test_other(racebench):\n    racebench.hammer('nothing:here')\n"
    )
    done = run_pytest(tmp_path)
    assert "racebench: 'test_orders:wrong' needs 2 arguments (one, two)" in done.stdout
    assert "racebench: 'nothing:here' cannot be imported: ModuleNotFoundError" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_dsn_option_chooses_the_server(tmp_path: Path, users_server: UsersServer, run_pytest: Run) -> None:
    (tmp_path / "test_orders.py").write_text(
        ORDERS + "\ndef test_it(racebench):\n    racebench.explore(create_order, setup=SCHEMA, invariant=TWINS)\n"
    )
    done = run_pytest(tmp_path, "--racebench-dsn", users_server.dsn())
    assert done.returncode == 1
    assert "(external)" in done.stdout
    assert users_server.password not in done.stdout
    wrong = run_pytest(tmp_path, "--racebench-dsn", users_server.dsn(password="no"))
    assert "racebench: cannot connect to 127.0.0.1" in wrong.stdout
    assert wrong.returncode == 1


def test_nothing_is_loaded_until_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\ndef test_it():\n"
        "    ours = {name for name in sys.modules if name.split('.')[0] == 'racebench'}\n"
        "    assert ours == {'racebench', 'racebench.pytest_plugin'}\n"
        "    assert not {'psycopg', 'numpy', 'click', 'rich.console', 'multiprocess'} & set(sys.modules)\n"
    )
    done = run_in_new_process(tmp_path, *OPTIONS, *PLUGIN, env=ALONE)
    assert done.returncode == 0, done.stdout


@pytest.mark.server
def test_the_workers_of_xdist_do_not_disturb_each_other(tmp_path: Path) -> None:
    # Each of the two tests waits for the other, so that they run in two workers, and take the same advisory lock.
    body = """
import os, psycopg, pytest
from waiting import wait_for
@pytest.mark.parametrize("me, other", [("a", "b"), ("b", "a")])
def test_it(racebench, tmp_path_factory, me, other):
    with psycopg.connect(racebench.dsn) as connection:
        row = connection.execute("SELECT pg_postmaster_start_time()::text, current_schema()").fetchone()
    with open(f"{me}.partial", "w") as file:
        file.write(f"{row[0]}|{row[1]}")
    os.rename(f"{me}.partial", me)
    wait_for(lambda: os.path.exists(other), "the other did not come")
    options = {"setup": "CREATE TABLE IF NOT EXISTS t (n int)", "invariant": "SELECT 1 WHERE false"}
    for _ in range(2):
        racebench.explore(create, **options)
        racebench.explore(connects, **options)

def create(connection):
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(42)")
        connection.execute("INSERT INTO t VALUES (1)")

def connects():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        create(connection)
"""
    (tmp_path / "test_both.py").write_text(body)
    alone = {**ALONE, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = run_in_new_process(tmp_path, *OPTIONS, *PLUGIN, "-p", "xdist.plugin", "-n", "2", env=alone)
    assert done.returncode == 0, done.stdout
    (server, schema), (other_server, other_schema) = ((tmp_path / name).read_text().split("|") for name in ("a", "b"))
    assert server != other_server
    assert schema != other_schema  # on a server of the user both are in one database


@pytest.mark.parametrize(
    ("work", "signals"),
    [
        ("hammer(waits, workers=2, seconds=30", [signal.SIGTERM]),
        ("hammer(waits, workers=2, seconds=30", [signal.SIGINT, signal.SIGINT, signal.SIGTERM]),
        ("explore(waits, sessions=2", [signal.SIGHUP, signal.SIGINT]),
    ],
    ids=["hammer", "hammer, thrice", "explore, twice"],
)
def test_an_interrupted_pytest_leaves_nothing_on_the_users_server(
    tmp_path: Path, users_server: UsersServer, work: str, signals: list[signal.Signals]
) -> None:
    """The signals come while a statement waits for a lock that is never released."""
    (tmp_path / "test_orders.py").write_text(
        ORDERS
        + f"""
def waits(connection):
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(4711)")
        create_order(connection)

def test_it(racebench):
    racebench.{work}, setup=SCHEMA, invariant=TWINS)
"""
    )
    with users_server.connect() as stranger:
        stranger.execute("SELECT pg_advisory_lock(4711)")
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *OPTIONS, *PLUGIN, "--racebench-dsn", users_server.dsn()],
            cwd=tmp_path,
            env={**os.environ, **ALONE},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: stranger.execute(waiting).fetchone() is not None, "no session waits for the lock")
        for number in signals:
            process.send_signal(number)
        said, _ = finish(process)
    assert process.returncode == 2, said
    assert "KeyboardInterrupt" in said
    assert "Traceback" not in said
    assert users_server.schemas() == []
    assert users_server.sessions() == 0
