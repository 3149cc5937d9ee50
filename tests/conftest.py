"""Real servers for every test: the embedded one, and one standing in for a user's, over TCP with a password."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import trustme
from hypothesis import settings

from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Pooling, Target
from racebench.core.watching import Patience
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.postgres.embedded import EmbeddedServer, EmbeddedStandby, wheel_programs
from racebench.workloads import catalog
from waiting import LIMIT_S, repeat, wait_for
from warm import READ_AT_START, Warm

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks/ is not part of the package; what is installed goes first

Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]
settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


# Commands respect signals that are ignored from the start, as those of a background job of a shell are.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

RACEBENCH = (sys.executable, "-m", "racebench")


#: A test that uses one of these fixtures, however indirectly, has the mark; others are marked where they are written.
MARKS = {
    "server": {"cache_folder", "users_server"},
    "browser": {"browser"},
}
CACHE = pytest.StashKey[Path]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make a cache of the tests' own, so that they start cold and leave nothing."""
    folder = Path(tempfile.mkdtemp(prefix="racebench-tests-"))
    folder.chmod(0o755)  # when run as root, the server runs as nobody and must get there
    session.config.stash[CACHE] = folder
    os.environ["RACEBENCH_PROGRESS"] = "never"  # a busy machine would print lines where tests expect none
    for name in (
        "RACEBENCH_DSN",
        "GITHUB_STEP_SUMMARY",
        "GITHUB_ACTIONS",
    ):  # the tests' own runs are not what they are about
        os.environ.pop(name, None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    shutil.rmtree(session.config.stash[CACHE])


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, fixtures in MARKS.items():
            if isinstance(item, pytest.Function) and fixtures & set(item.fixturenames):
                item.add_marker(mark)


@pytest.hookimpl(tryfirst=True)  # before any fixture
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a test with the mark `server` the cache, and any other one in which no embedded server can start."""
    allowed = item.get_closest_marker("server") is not None
    folder = item.config.stash[CACHE] if allowed else Path(os.devnull) / "this-test-lacks-the-mark-server"
    os.environ["RACEBENCH_CACHE_DIR"] = str(folder)


@pytest.fixture(scope="session")
def cache_folder(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.stash[CACHE]


@pytest.fixture(scope="session")
def embedded(cache_folder: Path) -> Iterator[Target]:
    with EmbeddedServer(connections=40, pooled=True) as target:
        yield target


@pytest.fixture(scope="session")
def pair(cache_folder: Path) -> Iterator[Target]:
    """Another embedded server, with a hot standby."""
    server = EmbeddedServer(connections=40, replicated=True)
    with server as target, EmbeddedStandby(server) as replica:
        yield replace(target, standby=replica)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    with Processes() as pool:
        yield pool


@pytest.fixture(scope="session")
def version_counter() -> Scenario:
    return catalog.find_scenario("version-counter")


@pytest.fixture
def hammer(embedded: Target, processes: Processes) -> Callable[..., RunResult]:
    """Run a strategy of version-counter (or another scenario) on the embedded server; keywords are Load's.

    With `until`, it is run again, by another seed, until the result meets this condition: for what depends on chance.
    `pooler`: its workers pass PgBouncer in that mode.
    """

    def run(
        name: str,
        consumers: str = "cursor",
        scenario: str = "version-counter",
        *,
        until: Callable[[RunResult], bool] = lambda _result: True,
        pooler: Pooling | None = None,
        give_up_s: float = 300.0,
        progress: Callable[[float], None] = lambda _fraction: None,
        **load: object,
    ) -> RunResult:
        folder = catalog.find_scenario(scenario).behind(pooler)
        target = replace(embedded, pooler=pooler)
        patience = Patience(give_up_s=give_up_s)

        def once(seed: int) -> RunResult:
            options = {"workers": 8, "duration_s": None, "operations": 800, "seed": seed, **load}
            return LoadDriver(target=target, executor=processes, patience=patience).run(
                folder,
                folder.strategies[name],
                catalog.find_consumers(folder, consumers.split()),
                Load(**options),  # type: ignore[arg-type]
                progress,
            )

        return repeat(once, until)

    return run


def shows(*counts: str) -> Callable[[RunResult], bool]:
    """A condition for `hammer`: each of these was counted at least once."""
    return lambda result: all(result.counts[name] > 0 for name in counts)


def shows_what_is_expected(result: RunResult) -> bool:
    """A condition for `hammer`: every anomaly that the catalog expects was found, whatever else was."""
    return set(result.expected) <= set(result.found)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with contextlib.closing(Warm(tmp_path_factory.mktemp("warm"))) as process:
        yield process


@pytest.fixture
def racebench(request: pytest.FixtureRequest, tmp_path: Path) -> Command:
    """Run the command in an empty folder or in another, `cwd`; extra environment as `env`.

    It is a fork of a process that has everything imported, unless a variable is read by Python when it starts.
    """

    def run(
        *arguments: str, env: dict[str, str] | None = None, cwd: Path = tmp_path, **options: object
    ) -> subprocess.CompletedProcess[str]:
        if not (options or any(name.startswith(READ_AT_START) for name in env or {})):
            warm: Warm = request.getfixturevalue("warm")
            return warm.run(arguments, cwd, {**os.environ, **(env or {})})
        return subprocess.run(
            [*RACEBENCH, *arguments],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            **options,  # type: ignore[call-overload]
        )

    return run


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    """The command failed with this exit code: one line on stderr that has the message, and nothing on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("racebench: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty folder whose path is short enough for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="rb-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command in an empty folder and go on; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*RACEBENCH, *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@dataclass(frozen=True)
class UsersServer:
    """A server as a user has one: TCP, a superuser with a password, and whatever a test adds."""

    port: int
    password: str
    version: str
    tls: bool

    def dsn(
        self, *, user: str = "owner", password: str | None = None, dbname: str = "postgres", sslmode: str = "disable"
    ) -> str:
        secret = self.password if password is None else password
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{dbname}?sslmode={sslmode}"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.dsn(), autocommit=True)

    def schemas(self) -> list[str]:
        """What racebench left behind; empty if it kept its word."""
        with self.connect() as connection:
            rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall()
        return [str(row[0]) for row in rows]

    def sessions(self) -> int:
        with self.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'racebench%'"
            ).fetchone()
        assert row is not None
        return int(str(row[0]))


def server_programs() -> Path:
    """Debian's PostgreSQL if it is installed (.ci/run sees to that), else the wheel's 16."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return installed[0].parent if installed else wheel_programs(16)


#: Of prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def _end_with_pytest() -> None:
    """Have the kernel end this process when pytest is ended by a signal; SIGINT is a fast shutdown of PostgreSQL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


@pytest.fixture(scope="session")
def users_server() -> Iterator[UsersServer]:
    programs = server_programs()
    folder = Path(tempfile.mkdtemp(prefix="racebench-users-server-"))
    identity: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    password = f"secret-{secrets.token_hex(8)}"
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    data = folder / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "owner", f"--pwfile={secret}", "--no-sync"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
    subprocess.run(initdb, cwd=folder, check=True, capture_output=True, **identity)  # type: ignore[call-overload]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    encrypted = _certificate(folder, identity)
    probed = subprocess.run([*command, *encrypted, "-C", "ssl"], cwd=folder, capture_output=True, **identity)  # type: ignore[call-overload]
    tls = probed.returncode == 0  # the wheel's PostgreSQL is built without
    command += encrypted if tls else []
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(  # type: ignore[call-overload]
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_pytest,  # noqa: PLW1509 - no other thread has begun
            **identity,
        )
    try:
        version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
        made = UsersServer(port=port, password=password, version=version.split()[2].split(".")[0], tls=tls)
        wait_for(lambda: _answers(made), "the user's server does not answer")
        yield made
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def _certificate(folder: Path, identity: dict[str, object]) -> list[str]:
    """Put a certificate where the server looks for one; its settings."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    (folder / "key.pem").chmod(0o600)
    if identity:
        os.chown(folder / "key.pem", identity["user"], identity["group"])  # type: ignore[arg-type]
    files = {"ssl_key_file": folder / "key.pem", "ssl_cert_file": folder / "certificate.pem"}
    return ["-c", "ssl=on", *(word for name, path in files.items() for word in ("-c", f"{name}={path}"))]


def _answers(server: UsersServer) -> bool:
    with contextlib.suppress(psycopg.OperationalError), server.connect():
        return True
    return False
