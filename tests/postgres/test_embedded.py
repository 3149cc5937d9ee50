"""The embedded server: of one command alone, on new data, and gone when its command is gone, however that ended."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Command, Start
from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.postgres import embedded
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer, as_superuser, template
from waiting import LIMIT_S, finish, wait_for

pytestmark = pytest.mark.server


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for one test."""
    folder = Path(tempfile.mkdtemp(prefix="racebench-cache-"))
    folder.chmod(0o755)
    monkeypatch.setenv("RACEBENCH_CACHE_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def servers(cache: Path) -> list[int]:
    """The postmasters whose data is under a cache."""
    listing = subprocess.run(["ps", "-wweo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 1) for line in listing.splitlines()]
    return [int(pid) for pid, arguments in lines if "postgres -D" in arguments and str(cache) in arguments]


def test_a_server_has_the_connections_asked_for_and_is_gone_afterwards(cache: Path) -> None:
    with EmbeddedServer(connections=150) as target, connect(target) as connection:
        row = connection.execute("SELECT current_setting('max_connections')::int, current_setting('fsync')").fetchone()
        assert row is not None
        assert row[0] >= 150
        assert row[1] == "on"
        assert len(servers(cache)) == 1
    assert servers(cache) == []


@pytest.mark.parametrize("version", embedded.VERSIONS)
def test_each_version_is_the_version_it_says(cache: Path, version: int) -> None:
    with EmbeddedServer(version=version, connections=8) as target, connect(target) as connection:
        assert connection.info.server_version // 10000 == version


def test_nothing_that_a_command_has_made_is_inherited(cache: Path) -> None:
    with EmbeddedServer(connections=8) as target:
        with connect(target) as connection:
            connection.execute("CREATE TABLE public.made (a int)")
            connection.execute("CREATE ROLE made")
            connection.execute("BEGIN; CREATE TABLE held (a int); PREPARE TRANSACTION 'left'")
        with connect(as_superuser(target)) as connection:
            connection.execute("ALTER SYSTEM SET work_mem = '1MB'")
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall() == []
        assert connection.execute("SELECT rolname FROM pg_roles WHERE rolname = 'made'").fetchall() == []
        assert connection.execute("SELECT to_regclass('public.made'), to_regclass('held')").fetchone() == (None, None)
        assert connection.execute("SHOW work_mem").fetchone() == ("4MB",)


def test_the_data_of_a_command_is_gone_with_it(cache: Path) -> None:
    with EmbeddedServer(connections=8):
        assert len(list(cache.glob("*/slot-*/data"))) == 1
    assert list(cache.glob("*/slot-*/data")) == []


def test_two_at_once_are_two_servers_and_ending_one_leaves_the_other(cache: Path) -> None:
    with EmbeddedServer(connections=8) as first:
        with EmbeddedServer(connections=8) as second:
            assert first.parameters["host"] != second.parameters["host"]
        with connect(first) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_has_only_begun_is_stopped_where_sigquit_is_ignored(cache: Path) -> None:
    """As in a background job of a shell."""
    with EmbeddedServer(connections=8):
        pass  # makes the template
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        server = EmbeddedServer(connections=8)
        server.begin()
        assert server.coming is not None
        server.stop()
    finally:
        signal.signal(signal.SIGQUIT, before)
    assert b"immediate shutdown" in server.coming.log.read_bytes(), "it was killed"
    assert servers(cache) == []


def test_a_server_that_has_only_begun_ends_with_its_command_where_sigquit_is_ignored(cache: Path) -> None:
    with EmbeddedServer(connections=8):
        pass  # makes the template
    program = """
import os, signal
from racebench.postgres.embedded import EmbeddedServer
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
server = EmbeddedServer(connections=8)
server.begin()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    slot = _slot()
    wait_for(lambda: b"immediate shutdown" in (slot / "log").read_bytes(), "the server was not told to end")
    wait_for(lambda: servers(cache) == [], "the server runs on")


def test_commands_started_at_once_on_a_cold_cache_all_work(cache: Path, start: Start) -> None:
    running = [start("run", "-s", "sequence", "-w", "2", "-n", "20", "--no-save") for _ in range(3)]
    for process in running:
        output, errors = finish(process)
        assert process.returncode == 0, errors
        assert "sequence" in output
    assert servers(cache) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_exits_130_and_leaves_no_server_and_no_worker(
    cache: Path, start: Start, tmp_path: Path, sign: signal.Signals
) -> None:
    process = _start_run(cache, start)
    workers = _descendants(process.pid)
    process.send_signal(sign)
    _, errors = finish(process)
    assert process.returncode == 130
    assert errors.strip() == "racebench: interrupted; no server, worker or schema is left"
    assert servers(cache) == []
    wait_for(lambda: not any(_alive(pid) for pid in workers), "a worker outlived its command")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_command_takes_its_server_and_its_workers_with_it(cache: Path, start: Start) -> None:
    process = _start_run(cache, start)
    workers = _descendants(process.pid)
    process.kill()
    finish(process)
    wait_for(lambda: not servers(cache), "the server outlived its killed command")
    wait_for(lambda: not any(_alive(pid) for pid in workers), "a worker outlived its killed command")
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_orphaned_server_in_a_free_slot_is_stopped_before_the_slot_is_used(cache: Path) -> None:
    with EmbeddedServer(connections=8):
        pass
    data = _slot() / "data"
    programs = embedded.server_programs(18)
    template.unpack(programs, embedded.server_folder(18), data)
    with (cache / "orphan.log").open("wb") as log:
        orphan = embedded.start_program(
            [str(programs / "postgres"), "-D", str(data), "-c", "listen_addresses=", "-k", ""], cwd=data, output=log
        )
    wait_for(lambda: (data / "postmaster.pid").exists(), "the orphan did not start")
    threading.Thread(target=orphan.wait, daemon=True).start()  # reaps it, as init would
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert orphan.pid not in servers(cache)


def test_a_killed_commands_data_is_not_inherited(cache: Path, start: Start) -> None:
    process = _start_run(cache, start)
    process.kill()
    finish(process)
    wait_for(lambda: not servers(cache), "the server outlived its killed command")
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall()
    assert schemas == []


def test_server_clean_deletes_the_data_of_a_killed_command_and_none_that_is_in_use(
    cache: Path, start: Start, racebench: Command
) -> None:
    process = _start_run(cache, start)
    process.kill()
    finish(process)
    wait_for(lambda: not servers(cache), "the server outlived its killed command")
    unfinished = embedded.server_folder(18) / "making-left"
    unfinished.mkdir()
    killed = _slot() / "data"
    assert killed.exists()
    with EmbeddedServer(connections=8) as target, connect(target):  # takes the slot, and its data is new
        done = racebench("server", "clean", env={"TMPDIR": str(cache)})
        assert done.stdout == f"deleted {unfinished}\n"
        assert killed.exists()
    killed.mkdir()
    assert racebench("server", "clean", env={"TMPDIR": str(cache)}).stdout == f"deleted {killed}\n"
    assert not killed.exists()
    assert racebench("server", "clean", env={"TMPDIR": str(cache)}).stdout == "nothing to drop\n"


def test_folders_of_an_older_layout_are_not_used_and_reset_deletes_them(cache: Path, racebench: Command) -> None:
    old = cache / "postgresql-18"
    for path in (old / "template", old / "slot-0" / "data", cache / "postgresql-18-mine"):
        path.mkdir(parents=True)
    (old / "slot-0.lock").touch()
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert f"deleted {old / 'template'}\n" in racebench("server", "reset").stdout
    assert not old.exists()
    assert (cache / "postgresql-18-mine").exists()


def test_reset_deletes_what_is_not_in_use_and_refuses_what_is(cache: Path) -> None:
    with EmbeddedServer(connections=8), pytest.raises(UsageProblem, match="in use by another racebench command"):
        embedded.reset(18)
    assert {path.name for path in embedded.reset(18)} >= {"template.tar", "slot-0"}
    assert embedded.reset(18) == []
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_broken_template_is_one_line_with_the_next_move(cache: Path) -> None:
    with EmbeddedServer(connections=8):
        pass
    (embedded.server_folder(18) / "template.tar").write_bytes(b"not an archive" * 1000)
    with (
        pytest.raises(DatabaseProblem, match=r"cannot copy .*racebench server reset") as caught,
        EmbeddedServer(connections=8),
    ):
        raise AssertionError("started without data")
    assert "\n" not in str(caught.value)
    assert servers(cache) == []


def test_a_cache_that_cannot_be_made_is_one_line_with_the_next_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RACEBENCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DatabaseProblem, match="set RACEBENCH_CACHE_DIR"), EmbeddedServer(connections=8):
        raise AssertionError("started without a cache")


def test_a_long_cache_path_has_a_socket_elsewhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = cache / ("long-" * 20)
    deep.mkdir()
    monkeypatch.setenv("RACEBENCH_CACHE_DIR", str(deep))
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        sockets = Path(target.parameters["host"])
    assert not sockets.exists()


def test_server_path_and_reset_are_commands(cache: Path, racebench: Command) -> None:
    assert racebench("server", "path").stdout.strip() == str(cache / "postgresql-18-2")
    assert racebench("server", "path", "--server", "16").stdout.strip() == str(cache / "postgresql-16-2")
    assert racebench("server", "reset").stdout.strip() == "nothing to delete"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; the other tests cover the user")
def test_an_ordinary_user_runs_the_same_command(tmp_path: Path) -> None:
    somebody = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="racebench-home-"))
    os.chown(home, somebody.pw_uid, somebody.pw_gid)
    environment = {name: value for name, value in os.environ.items() if name != "RACEBENCH_CACHE_DIR"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    identity = {"user": somebody.pw_uid, "group": somebody.pw_gid, "extra_groups": []}
    # A root's virtual environment may lead to an interpreter in root's own home; Debian's of the same version will do.
    import racebench as package

    paths = [str(Path(package.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        environment["PYTHONPATH"] = os.pathsep.join([] if python == sys.executable else paths)
        with contextlib.suppress(OSError):
            can = subprocess.run(
                [python, "-c", "import psycopg"], env=environment, cwd="/", capture_output=True, **identity
            )  # type: ignore[call-overload]
            if can.returncode == 0:
                break
    else:
        pytest.skip("no Python that an ordinary user may execute holds racebench's packages")
    try:
        done = subprocess.run(
            [
                python,
                "-m",
                "racebench",
                "run",
                "-s",
                "naive",
                "--standby",
                "-w",
                "2",
                "-n",
                "40",
                "--results",
                "results",
            ],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            **identity,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr
        assert (home / "cache" / "racebench" / "postgresql-18-2" / "template.tar").is_file()
        assert len(list((home / "results").glob("*.json"))) == 1
    finally:
        shutil.rmtree(home)


def _start_run(cache: Path, start: Start) -> subprocess.Popen[str]:
    """Start a long run and wait until its workers write."""
    process = start("run", "-s", "sequence", "-w", "3", "-d", "60", "--hold", "5", "--no-save")
    wait_for(lambda: process.poll() is not None or _is_writing(), "the run never wrote")
    assert process.poll() is None
    return process


def _slot() -> Path:
    return embedded.server_folder(18) / "slot-0"


def _is_writing() -> bool:
    from racebench.core.target import Target

    sockets = _slot() / "socket"
    if not (sockets / ".s.PGSQL.5432").exists():
        return False
    target = Target(
        kind="embedded",
        parameters={"host": str(sockets), "user": "postgres", "dbname": "postgres"},
        label="the run's server",
        sealed=True,
    )
    try:
        with connect(target) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(n_tup_ins), 0) > 0 FROM pg_stat_user_tables WHERE relname = 'events'"
            ).fetchone()
    except DatabaseProblem:
        return False
    return row == (True,)


def _descendants(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    found, more = [], [pid]
    while more:
        parent = more.pop()
        children = [int(child) for child, of, arguments in rows if int(of) == parent and "postgres" not in arguments]
        found += children
        more += children
    assert found
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
