"""Processes of the server's user cannot make root harm others, and cannot reach the server or what the command knows.

Other daemons may run as `nobody` too. What these tests do as that user, such a daemon could do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Command, Start, assert_one_line
from racebench.core.errors import DatabaseProblem
from racebench.postgres import embedded
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer
from waiting import LIMIT_S, finish, wait_for

pytestmark = pytest.mark.server
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")

SECRET = "postgresql://someone:SECRET@127.0.0.1:1/none"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> Iterator[Path]:
    """An empty cache for one test, and a folder for what a killed command leaves."""
    monkeypatch.setenv("TMPDIR", str(short_path))
    folder = Path(tempfile.mkdtemp(prefix="racebench-cache-"))
    folder.chmod(0o755)
    monkeypatch.setenv("RACEBENCH_CACHE_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def victim() -> Iterator[Path]:
    """A file of the command's user, in a folder that everyone may enter."""
    folder = Path(tempfile.mkdtemp(prefix="racebench-victim-"))
    folder.chmod(0o755)
    file = folder / "file"
    file.write_text("kept")
    file.chmod(0o600)
    yield file
    shutil.rmtree(folder)


def as_server_user(*command: str, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's user."""
    with tempfile.TemporaryFile() as output:
        code = embedded.start_program(list(command), cwd=cwd, output=output).wait(LIMIT_S)
        output.seek(0)
        return subprocess.CompletedProcess(command, code, output.read().decode(errors="replace"))


def slot() -> Path:
    return embedded.server_folder(embedded.DEFAULT_VERSION) / "slot-0"


def untouched(victim: Path) -> bool:
    status = victim.lstat()
    return (victim.read_text(), status.st_uid, status.st_mode & 0o777) == ("kept", os.geteuid(), 0o600)


@only_root
def test_a_log_that_is_a_link_does_not_make_root_truncate_its_target(cache: Path, victim: Path) -> None:
    with EmbeddedServer(connections=8):
        as_server_user("ln", "-sfn", str(victim), str(slot() / "log"))
    as_server_user("ln", "-sfn", str(victim), str(slot() / "log"))
    with EmbeddedServer(connections=8):
        assert untouched(victim)
    assert untouched(victim)


@only_root
def test_links_in_the_data_do_not_make_root_change_or_delete_their_targets(cache: Path, victim: Path) -> None:
    for place in ("data", "data/pg_twophase", "data/global", "data/postmaster.pid", "socket"):
        with EmbeddedServer(connections=8):
            linked = slot() / place
            as_server_user("mv", str(linked), f"{linked}.moved")
            as_server_user("ln", "-s", str(victim.parent), str(linked))
            as_server_user("ln", "-s", str(victim), str(linked / "link"))
        assert untouched(victim)
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert untouched(victim)


@only_root
def test_the_template_cannot_be_changed_by_the_servers_user(cache: Path, victim: Path) -> None:
    with EmbeddedServer(connections=8):
        pass
    for path in embedded.server_folder(18).rglob("*"):
        as_server_user("ln", "-sfn", str(victim), str(path))
        as_server_user("chmod", "777", str(path))
        if path.is_dir():
            as_server_user("ln", "-s", str(victim), str(path / "link"))
    assert not [path for path in embedded.server_folder(18).rglob("*") if path.is_symlink()]
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert untouched(victim)


def test_a_planted_pid_does_not_make_the_next_command_end_an_innocent_process(cache: Path) -> None:
    with EmbeddedServer(connections=8):
        pass
    data = slot() / "data"
    # Its command line names the data directory, as that of a backup would.
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(data)])
    try:
        data.mkdir(exist_ok=True)
        (data / "postmaster.pid").write_text(f"{innocent.pid}\n{data}\n")
        with EmbeddedServer(connections=8) as target, connect(target) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@only_root
def test_only_a_process_of_the_servers_user_is_taken_for_a_server(cache: Path) -> None:
    with EmbeddedServer(connections=8):
        pass
    data = slot() / "data"
    data.mkdir(exist_ok=True)
    with subprocess.Popen(["/bin/sh", "-c", "read -r word", "-D", str(data)], stdin=subprocess.PIPE) as innocent:
        with EmbeddedServer(connections=8):
            assert innocent.poll() is None
        innocent.kill()


def psql(sockets: str, user: str) -> subprocess.CompletedProcess[str]:
    """Ask the server something by PostgreSQL's own client, as the server's user."""
    program = embedded.server_programs(embedded.DEFAULT_VERSION) / "psql"
    return as_server_user(str(program), "-X", "-w", "-h", sockets, "-U", user, "-d", "postgres", "-Atc", "SELECT 'in'")


@only_root
@pytest.mark.parametrize("user", ["postgres", "racebench"])
def test_another_process_of_the_servers_user_cannot_connect(cache: Path, user: str) -> None:
    with EmbeddedServer(connections=8) as target:
        sockets = target.parameters["host"]
        refused = psql(sockets, user)
        assert refused.returncode != 0
        assert "in" not in refused.stdout.split()
        Path(sockets).chmod(0o777)  # the folder is not the only protection
        refused = psql(sockets, user)
        assert refused.returncode != 0
        assert "Peer authentication failed" in refused.stdout
        with connect(target) as connection:
            assert connection.execute("SELECT 'in'").fetchone() == ("in",)


def test_the_servers_processes_know_nothing_of_the_commands_environment(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACEBENCH_DSN", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    with EmbeddedServer(connections=8) as target, connect(target):
        listing = subprocess.run(["ps", "-wweo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, listing.splitlines())}
        server = target.server_pid
        processes = [pid for pid, parent in parents.items() if server in (pid, parent)]
        processes += [pid for pid, parent in parents.items() if parent == os.getpid() and _is_watcher(pid)]
        assert len(processes) > 5
        for pid in processes:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"SECRET" not in environment, pid
            assert {word.split(b"=")[0] for word in environment.split(b"\0") if word} <= {b"PATH", b"LC_ALL", b"TZ"}


def _is_watcher(pid: int) -> bool:
    try:
        return b"kill -QUIT" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_command_that_is_killed_while_it_makes_the_template_does_not_stop_the_next(cache: Path, start: Start) -> None:
    process = start("run", "-s", "sequence", "-w", "2", "-n", "20", "--no-save")
    wait_for(lambda: bool(_making(cache)) or process.poll() is not None, "no template was begun")
    process.kill()
    finish(process)
    assert _making(cache), "the template was complete already"
    both = [start("run", "-s", "sequence", "-w", "2", "-n", "20", "--no-save") for _ in range(2)]
    for process in both:
        _, errors = finish(process)
        assert process.returncode == 0, errors
    assert _making(cache) == []


def test_a_program_that_still_writes_in_an_unfinished_template_does_not_stop_the_next_command(cache: Path) -> None:
    folder = embedded.server_folder(embedded.DEFAULT_VERSION)
    unfinished = [folder / name for name in ("making-left", "template.partial")]
    writers = []
    for path in unfinished:
        path.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(path, "nobody")
        write = 'n=0; while n=$((n+1)); do mkdir -p "$1/$n/a/b/c" && : >"$1/$n/a/b/c/file"; done'
        writers.append(
            embedded.start_program(["/bin/sh", "-c", write, "sh", str(path)], cwd=Path("/"), output=subprocess.DEVNULL)
        )
    try:
        for path in unfinished:
            wait_for(lambda path=path: len(list(path.iterdir())) > 20, "nothing is written")  # type: ignore[misc]
        with EmbeddedServer(connections=8) as target, connect(target) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        for writer in writers:
            os.killpg(writer.pid, signal.SIGKILL)
            writer.wait()


def _making(cache: Path) -> list[Path]:
    return [*cache.glob("*/making-*"), *cache.glob("*/template.partial")]


@only_root
def test_root_refuses_a_cache_that_another_user_could_change(cache: Path) -> None:
    cache.chmod(0o777)
    with (
        pytest.raises(DatabaseProblem, match=r"other users may change .*; set RACEBENCH_CACHE_DIR") as caught,
        EmbeddedServer(connections=8),
    ):
        raise AssertionError("started in a folder of everyone")
    assert "\n" not in str(caught.value)


def test_a_server_whose_command_and_watcher_were_killed_is_stopped_by_the_next(cache: Path, start: Start) -> None:
    process = start("run", "-s", "sequence", "-w", "2", "-d", "60", "--hold", "5", "--no-save")
    wait_for(lambda: (slot() / "socket" / ".s.PGSQL.5432").exists() or process.poll() is not None, "no server")
    server = _server_of(slot() / "data")
    watchers = [pid for pid in _pids() if _is_watcher(pid) and _parent(pid) == process.pid]
    assert len(watchers) == 1
    process.send_signal(signal.SIGSTOP)  # so that it does not replace or miss anything while it is killed
    os.kill(watchers[0], signal.SIGKILL)
    process.kill()
    finish(process)
    assert _words(server)
    with EmbeddedServer(connections=8) as target, connect(target) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not _words(server)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def _server_of(data: Path) -> int:
    return next(pid for pid in _pids() if _words(pid)[1:3] == ["-D", str(data)])


PROGRAM = "COPY (SELECT 1) TO PROGRAM 'cat > {}'"


def test_the_sql_of_a_file_runs_no_program_on_the_server(cache: Path, racebench: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.sql"
    file.write_text("INSERT INTO t VALUES (1);\n")
    words = ("run", "mine.sql", "-w", "1", "-n", "1", "--no-save")
    setup = f"CREATE TABLE t (a int); {PROGRAM.format('/dev/null')}"
    done = racebench(*words, "--setup", setup)
    assert_one_line(done, 2, "permission denied to COPY to or from an external program")
    done = racebench(*words, "--setup", setup, "--superuser")
    assert done.returncode == 0, done.stderr
    done = racebench(*words, "--setup", setup, "--superuser", "--dsn", "postgresql://u@127.0.0.1:1/none")
    assert_one_line(done, 2, "--superuser is for the embedded server")


def test_a_scenario_runs_programs_only_if_it_declares_that_it_needs_a_superuser(
    cache: Path, racebench: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    manifest = (
        'summary = "s"\nschema = "schema.sql"\n{}\n[invariants]\nnone = "SELECT 1 WHERE false"\n'
        '[strategies.one]\nsummary = "s"\nscript = "one.sql"\n'
    )
    (folder / "schema.sql").write_text(f"CREATE TABLE t (a int);\n{PROGRAM.format('/dev/null')};\n")
    (folder / "one.sql").write_text("INSERT INTO t VALUES (1);\n")
    (folder / "scenario.toml").write_text(manifest.format(""))
    assert_one_line(racebench("run", "./hostile", "-w", "1", "-n", "1", "--no-save"), 2, "permission denied to COPY")
    (folder / "scenario.toml").write_text(manifest.format("superuser = true"))
    done = racebench("run", "./hostile", "-w", "1", "-n", "1", "--no-save")
    assert done.returncode == 0, done.stderr
    (folder / "scenario.toml").write_text(manifest.format('superuser = "yes"'))
    assert_one_line(racebench("run", "./hostile", "--no-save"), 2, "superuser is true or false, not 'yes'")
