"""The faults: what happens, to which commands, where, and what racebench promises then.

A fault is arranged before the command starts (settings of a role, limits of the machine, a proxy), or strikes while it
runs, at a moment that the trial's seed draws. The promises are the table of docs/reliability.md, and `look` holds
racebench to them.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults import moments
from benchmarks.faults.grounds import Ground, Kind, Layout
from benchmarks.faults.proxy import Cut, Silence, Stall
from benchmarks.faults.scene import Scene
from benchmarks.faults.subjects import RETRYING

#: Commands whose workers write rows; those that explore; those that need a server; all.
LOADED = ("run", "run several", "run --call", "compare", "matrix")
EXPLORING = ("explore", "explore --call", "demo")
WITH_SERVER = (*LOADED, *EXPLORING, "pytest")
EVERY = (*WITH_SERVER, "check")

#: The exit codes of a command that ran to its end: a verdict, or the database failed.
JUDGED = (0, 3, 5)
_ENDED = (*JUDGED, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What racebench promises under a fault. `codes`: its exit codes, those of pytest's command left out."""

    does: str
    verdict: str
    remains: str = "nothing"
    codes: tuple[int, ...] = _ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault. `text`: what happens. `elsewhere`: why the commands that are not in `drivers` are left out.

    `arrange`: prepare the ground of a cell. `limit`: prepare one trial, for the length of a block. `cut`: what the
    proxy does. `piece`: the most bytes that it sends at once. `strike`: what happens while the command runs; whether it
    did. `innocent`: the strategies that are asked about. `kills`: the command is killed, so it may leave what
    `racebench server clean` drops. `loses`: the server forgets commits. `names`: a setting under which your own
    function may break its rule, if racebench names it.
    """

    name: str
    family: str
    text: str
    drivers: tuple[str, ...]
    promise: Promise
    elsewhere: str = ""
    layout: Layout = field(default_factory=Layout)
    arrange: Callable[[Ground], None] = lambda _ground: None
    limit: Callable[[Scene], contextlib.AbstractContextManager[None]] = lambda _scene: contextlib.nullcontext()
    cut: Callable[[random.Random], Cut] | None = None
    piece: int | None = None
    strike: Callable[[Scene], bool] = lambda _scene: True
    innocent: tuple[str, ...] = ()
    kills: bool = False
    loses: bool = False
    names: str = ""


# What strikes


def _kill(role: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.signal(scene.client(role), signal.SIGKILL)


def _pause(role: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.pause(scene.client(role))


def _terminate(role: str) -> Callable[[Scene], bool]:
    """pg_terminate_backend of one session; of every session of the command for the role `all`."""

    def strike(scene: Scene) -> bool:
        session = scene.backend("any" if role == "all" else role)
        if session is None or scene.ground.server is None:
            return False
        pids = [pid for pid, _ in scene.backends("any")] if role == "all" else [session[0]]
        with scene.ground.server.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,))
        return True

    return strike


def _to_backend(what: Callable[[Scene, int], bool]) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        session = scene.backend("any")
        return session is not None and what(scene, session[0])

    return strike


def _end_server(how: signal.Signals, *, again: bool = True) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        if not scene.wait_for_moment() or scene.ground.server is None:
            return False
        scene.ground.server.stop(how)
        if again:
            time.sleep(scene.draw.uniform(0.0, 0.5))
            scene.ground.server.start()
        return True

    return strike


def _end_pooler(scene: Scene) -> bool:
    if not scene.wait_for_moment() or scene.ground.pooler is None:
        return False
    scene.ground.pooler.stop()
    time.sleep(scene.draw.uniform(0.0, 0.5))
    scene.ground.pooler.start()
    return True


def _embedded(what: signal.Signals, name: bytes) -> Callable[[Scene], bool]:
    """Send a signal to a process of the embedded server: its postmaster, or one of its backends."""

    def strike(scene: Scene) -> bool:
        if not scene.wait_for_moment():
            return False
        pids = [pid for pid, command in _embedded_processes(scene.folder) if name in command]
        return bool(pids) and scene.signal(scene.draw.choice(pids), what)

    return strike


def _embedded_processes(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The processes of the embedded server of a trial, with their titles: a backend's has its schema's name."""
    data = {
        int(line)
        for path in folder.rglob("postmaster.pid")
        for line in path.read_text().splitlines()[:1]
        if line.isdecimal()
    }
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            pid = int(place.name)
            if pid in data:
                yield pid, b"postmaster"
            elif parent in data:
                yield pid, (place / "cmdline").read_bytes()


def _signal(what: signal.Signals, *, group: bool = False, times: int = 1) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        # Before its first statement Python itself would answer a signal.
        moment = time.monotonic() + scene.draw.uniform(0.15, scene.driver.seconds)
        if not scene.wait_until(lambda: time.monotonic() >= moment):
            return False
        for _ in range(times):
            scene.signal(-scene.command.pid if group else scene.command.pid, what)
            time.sleep(scene.draw.uniform(0.0, 0.3) if times > 1 else 0.0)
        return True

    return strike


# What is arranged before


def _role(*settings: str) -> Callable[[Ground], None]:
    """Settings of the role that racebench connects as."""

    def arrange(ground: Ground) -> None:
        assert ground.server is not None
        with ground.server.connect() as connection:
            for setting in settings:
                connection.execute(f"ALTER ROLE tester SET {setting}".encode())

    return arrange


def _statements(*statements: str) -> Callable[[Ground], None]:
    def arrange(ground: Ground) -> None:
        assert ground.server is not None
        with ground.server.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    return arrange


def _encoding(name: str) -> Callable[[Ground], None]:
    """The same two databases in another encoding."""

    def arrange(ground: Ground) -> None:
        assert ground.server is not None
        with ground.server.connect("postgres") as connection:
            for database in ("audited", "plain"):
                connection.execute(f"ALTER DATABASE {database} RENAME TO {database}_utf8".encode())
                connection.execute(f"CREATE DATABASE {database} TEMPLATE template0 ENCODING '{name}'".encode())
                connection.execute(f"GRANT CREATE ON DATABASE {database} TO tester".encode())
        ground.server.audit()

    return arrange


def _limits(option: str, least: int, most: int) -> Callable[[Scene], contextlib.AbstractContextManager[None]]:
    """A limit of the system on each process of the command."""

    @contextlib.contextmanager
    def limit(scene: Scene) -> Iterator[None]:
        scene.prefix = ("prlimit", f"--{option}={scene.draw.randint(least, most)}")
        yield

    return limit


@contextlib.contextmanager
def _small_disk(scene: Scene) -> Iterator[None]:
    """The working folder, or the folder for temporary files, is a disk that is full soon."""
    place = scene.draw.choice([scene.work, scene.tmp])
    size = f"size={scene.draw.choice([4, 16, 64, 256, 1024])}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def _nohup(scene: Scene) -> Iterator[None]:
    scene.prefix = ("nohup",)
    yield


def _environment(**variables: str) -> Callable[[Scene], contextlib.AbstractContextManager[None]]:
    @contextlib.contextmanager
    def limit(scene: Scene) -> Iterator[None]:
        scene.environment.update(variables)
        yield

    return limit


# The table

_PROXY = Layout(kind=Kind.PROXY)
_EMBEDDED = Layout(kind=Kind.EMBEDDED)
#: The server forgets what was acknowledged in the last seconds before a crash.
_FORGETS = {"synchronous_commit": "off", "wal_writer_delay": "10s"}

_GOES_ON = Promise(
    does="notes it and goes on; operations in flight are FAIL or UNKNOWN",
    verdict="as without the fault; UNKNOWN if too little was left to judge",
)
_RECONNECTS = Promise(
    does="connects again for 10 seconds and goes on; the explorer ends with one line",
    verdict="as without the fault, or UNKNOWN; the lost connection is never counted as refused",
    remains="nothing; a schema that cannot be dropped is named, and `racebench server clean` drops it",
)
_NOTHING = Promise(does="nothing: the run goes on", verdict="as without the fault", codes=JUDGED)
_REFUSES = Promise(does="refuses with one line, before it creates anything", verdict="none", codes=(6,))
_INTERRUPTS = Promise(
    does="ends; finished runs are shown and saved",
    verdict="only of what was finished",
    codes=(*JUDGED, 130),
)
_NO_CONSUMER = "without a consumer, or its session is short"
_NO_WORKERS = "without workers"
_NO_SERVER = "uses no server"
_NO_COMMITS = "the other commands run few COMMITs"

_PROCESSES = (
    Fault(
        name="nothing",
        family="control",
        text="no fault: innocent subjects must be VALID and guilty ones INVALID",
        drivers=EVERY,
        promise=Promise(does="as documented", verdict="VALID or INVALID", codes=(0, 3)),
    ),
    Fault(
        name="worker killed",
        family="processes",
        text="kill -9 of a worker",
        drivers=(*LOADED, "pytest"),
        elsewhere=_NO_WORKERS,
        strike=_kill("worker"),
        promise=Promise(
            does="names the worker and goes on without it; before the start it ends with one line",
            verdict=_GOES_ON.verdict,
            codes=(*_ENDED, 1),
        ),
    ),
    Fault(
        name="worker paused",
        family="processes",
        text="SIGSTOP of a worker, SIGCONT within a second",
        drivers=LOADED,
        elsewhere=_NO_WORKERS,
        strike=_pause("worker"),
        promise=_NOTHING,
    ),
    Fault(
        name="consumer killed",
        family="processes",
        text="kill -9 of a consumer",
        drivers=("run", "run several", "compare", "matrix"),
        elsewhere=_NO_CONSUMER,
        strike=_kill("consumer"),
        promise=Promise(
            does="names the consumer and goes on; before the start it ends with one line",
            verdict="of what the table shows, else UNKNOWN",
            codes=(*_ENDED, 1),
        ),
    ),
    Fault(
        name="consumer paused",
        family="processes",
        text="SIGSTOP of a consumer, SIGCONT within a second",
        drivers=("run", "run several", "compare", "matrix"),
        elsewhere=_NO_CONSUMER,
        strike=_pause("consumer"),
        promise=_NOTHING,
    ),
    Fault(
        name="command killed",
        family="processes",
        text="kill -9 of the command",
        drivers=EVERY,
        strike=_kill("main"),
        kills=True,
        promise=Promise(
            does="workers and consumers end within a second",
            verdict="none",
            remains="a schema, and a temporary folder; the next command names them and `racebench server clean` drops "
            "them",
            codes=(*JUDGED, -9),
        ),
    ),
    Fault(
        name="command paused",
        family="processes",
        text="SIGSTOP of the command, SIGCONT within a second",
        drivers=EVERY,
        strike=_pause("main"),
        promise=_NOTHING,
    ),
    Fault(
        name="embedded, command killed",
        family="processes",
        text="kill -9 of the command that started the embedded server",
        drivers=("run", "explore", "demo", "pytest"),
        elsewhere="as these",
        layout=_EMBEDDED,
        strike=_kill("main"),
        kills=True,
        promise=Promise(
            does="a watcher stops the server; workers end within a second",
            verdict="none",
            remains="a temporary folder; the next command starts with a fresh server",
            codes=(*JUDGED, -9),
        ),
    ),
)

_SERVERS = (
    *(
        Fault(
            name=f"{role} terminated",
            family="server",
            text=f"pg_terminate_backend of {what}",
            drivers=drivers,
            elsewhere=why,
            strike=_terminate(role),
            promise=_RECONNECTS,
        )
        for role, what, drivers, why in (
            ("worker", "a worker's session", LOADED, _NO_WORKERS),
            ("consumer", "a consumer's session", ("run", "run several", "compare", "matrix"), _NO_CONSUMER),
            ("command", "the command's own session", WITH_SERVER, _NO_SERVER),
            ("session", "an explored session", EXPLORING, "explore nothing"),
            ("all", "all sessions at once", WITH_SERVER, _NO_SERVER),
        )
    ),
    Fault(
        name="backend killed",
        family="server",
        text="kill -9 of a backend: crash recovery",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        strike=_to_backend(lambda scene, pid: scene.signal(pid, signal.SIGKILL)),
        promise=_RECONNECTS,
    ),
    Fault(
        name="backend killed, commits forgotten",
        family="server",
        text="the same with synchronous_commit=off on the server: acknowledged rows are gone",
        drivers=("run", "run several", "run --call"),
        elsewhere="as these",
        layout=Layout(settings=_FORGETS),
        strike=_to_backend(lambda scene, pid: scene.signal(pid, signal.SIGKILL)),
        loses=True,
        promise=Promise(
            does="connects again; says that the server crashed",
            verdict="rows that the server forgot are `lost`, with the reason; the strategy's own anomalies as always",
            remains=_RECONNECTS.remains,
        ),
    ),
    Fault(
        name="backend paused",
        family="server",
        text="SIGSTOP of a backend, SIGCONT within a second",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        strike=_to_backend(lambda scene, pid: scene.pause(pid)),
        promise=_NOTHING,
    ),
    *(
        Fault(
            name=name,
            family="server",
            text=text,
            drivers=WITH_SERVER,
            elsewhere=_NO_SERVER,
            strike=_end_server(how),
            promise=_RECONNECTS,
        )
        for name, text, how in (
            ("postmaster killed", "kill -9 of the postmaster, which is started again", signal.SIGKILL),
            ("server restarted", "a fast restart", signal.SIGINT),
            ("server crashed", "an immediate restart: crash recovery", signal.SIGQUIT),
        )
    ),
    Fault(
        name="server gone",
        family="server",
        text="the server is stopped and does not come back",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        strike=_end_server(signal.SIGQUIT, again=False),
        promise=Promise(
            does="tries for 10 seconds, then ends with one line",
            verdict="UNKNOWN, or none",
            remains="the schema, which is named",
        ),
    ),
    Fault(
        name="embedded, postmaster killed",
        family="server",
        text="kill -9 of the embedded server's postmaster",
        drivers=("run", "run --call", "explore", "demo", "pytest"),
        elsewhere="as these",
        layout=_EMBEDDED,
        strike=_embedded(signal.SIGKILL, b"postmaster"),
        promise=Promise(
            does="ends with one line: the embedded server ended",
            verdict="UNKNOWN, or none",
        ),
    ),
    Fault(
        name="embedded, backend killed",
        family="server",
        text="kill -9 of a backend of the embedded server",
        drivers=("run", "run --call", "explore", "explore --call", "demo", "pytest"),
        elsewhere="as these",
        layout=_EMBEDDED,
        strike=_embedded(signal.SIGKILL, b"racebench"),
        promise=_RECONNECTS,
    ),
)


def _late(draw: random.Random, most: int = 60) -> int:
    return draw.randint(1, most)


_NETWORK = (
    *(
        Fault(
            name=f"cut {where} COMMIT",
            family="network",
            text=text,
            drivers=LOADED,
            elsewhere=_NO_COMMITS,
            layout=_PROXY,
            cut=cut,
            promise=_RECONNECTS,
        )
        for where, text, cut in (
            (
                "before",
                "the n-th COMMIT does not arrive, the connection is lost",
                lambda draw: moments.before_commit(_late(draw)),
            ),
            (
                "inside",
                "three bytes of the n-th COMMIT arrive, the connection is lost",
                lambda draw: moments.inside_commit(_late(draw)),
            ),
            (
                "after",
                "the n-th COMMIT is carried out, its answer is lost with the connection",
                lambda draw: moments.after_commit(_late(draw)),
            ),
        )
    ),
    Fault(
        name="cut behind a refusal",
        family="network",
        text="the connection is lost behind the n-th error, before the ROLLBACK",
        drivers=("run", "run several", "compare", "matrix"),
        elsewhere="are refused rarely",
        layout=_PROXY,
        cut=lambda draw: moments.behind_refusal(_late(draw, 15)),
        innocent=RETRYING,
        promise=_RECONNECTS,
    ),
    Fault(
        name="cut at a message",
        family="network",
        text="the connection is lost at the n-th message of all",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=_PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), draw.choice([0, 1, 6])),
        promise=_RECONNECTS,
    ),
    Fault(
        name="stall",
        family="network",
        text="the n-th message arrives one to two seconds later",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=_PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), Stall(seconds=draw.uniform(1.0, 2.0))),
        promise=_NOTHING,
    ),
    Fault(
        name="black hole",
        family="network",
        text="from the n-th message on, one connection is open and silent",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=_PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), Silence.BLACK_HOLE),
        promise=Promise(
            does="says who waits for what; ends after --give-up-after, the explorer after --step-timeout",
            verdict="as the finished operations show, else UNKNOWN",
            remains=_RECONNECTS.remains,
        ),
    ),
    Fault(
        name="black hole behind COMMIT",
        family="network",
        text="the n-th COMMIT is carried out, and its connection is silent from then on",
        drivers=LOADED,
        elsewhere=_NO_COMMITS,
        layout=_PROXY,
        cut=lambda draw: moments.after_commit(_late(draw), Silence.BLACK_HOLE),
        promise=Promise(
            does="says who waits for what; ends after --give-up-after",
            verdict="as the finished operations show, else UNKNOWN",
            remains=_RECONNECTS.remains,
        ),
    ),
    Fault(
        name="half-closed",
        family="network",
        text="from the n-th message on, the server's side of one connection is closed",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=_PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), Silence.HALF_CLOSED),
        promise=_RECONNECTS,
    ),
    Fault(
        name="seven bytes at a time",
        family="network",
        text="every message arrives in pieces of seven bytes",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=_PROXY,
        cut=lambda _draw: lambda _data, _of_client: None,
        piece=7,
        promise=_NOTHING,
    ),
)

_POOLERS = (
    *(
        Fault(
            name=f"PgBouncer, {mode} pooling" + (", options ignored" if ignores else ""),
            family="pooler",
            text=f"PgBouncer with pool_mode = {mode}"
            + (f" and ignore_startup_parameters = {ignores}" if ignores else ""),
            drivers=("run", "run several", "run --call", "compare", "explore", "explore --call", "demo", "pytest"),
            elsewhere="as run, or uses no server",
            layout=Layout(kind=Kind.POOLER, pool_mode=mode, pool_ignores=ignores),
            promise=promise,
        )
        for mode, ignores, promise in (
            ("session", "", _REFUSES),
            (
                "session",
                "options",
                Promise(does="works, or refuses with one line that names the pooler", verdict="as without a pooler"),
            ),
            ("transaction", "options", _REFUSES),
            ("statement", "options", _REFUSES),
        )
    ),
    Fault(
        name="PgBouncer killed",
        family="pooler",
        text="PgBouncer with session pooling is killed, and started again",
        drivers=("run", "run several", "run --call", "compare", "explore", "pytest"),
        elsewhere="as these, or uses no server",
        layout=Layout(kind=Kind.POOLER, pool_ignores="options"),
        strike=_end_pooler,
        promise=_RECONNECTS,
    ),
)


def _set_for_role(name: str, text: str, *settings: str, names: str = "", codes: tuple[int, ...] = JUDGED) -> Fault:
    return Fault(
        name=name,
        family="surroundings",
        text=text,
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        arrange=_role(*settings),
        names=names,
        promise=Promise(
            does="sets what a strategy is defined under on its own sessions"
            + ("; a report about your own code names the setting" if names else ""),
            verdict="as without the setting" + ("; of your own code: of the code under the setting" if names else ""),
            codes=codes,
        ),
    )


_SURROUNDINGS = (
    Fault(
        name="standby",
        family="surroundings",
        text="the server is a hot standby",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=Layout(kind=Kind.STANDBY),
        promise=_REFUSES,
    ),
    Fault(
        name="read-only role",
        family="surroundings",
        text="default_transaction_read_only = on for the role",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        arrange=_role("default_transaction_read_only = on"),
        promise=_REFUSES,
    ),
    Fault(
        name="no rights",
        family="surroundings",
        text="the role may not create a schema",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        arrange=_statements("REVOKE CREATE ON DATABASE audited, plain FROM tester"),
        promise=_REFUSES,
    ),
    Fault(
        name="few connections",
        family="surroundings",
        text="the role may have three connections",
        drivers=("run", "run several", "run --call", "compare", "matrix", "explore", "explore --call"),
        elsewhere="need fewer connections, or none",
        arrange=_statements("ALTER ROLE tester CONNECTION LIMIT 3"),
        promise=_REFUSES,
    ),
    Fault(
        name="synchronous standby missing",
        family="surroundings",
        text="synchronous_standby_names is set, and no standby is connected",
        drivers=WITH_SERVER,
        elsewhere=_NO_SERVER,
        layout=Layout(settings={"synchronous_standby_names": "absent"}),
        promise=_REFUSES,
    ),
    _set_for_role(
        "role serializable",
        "default_transaction_isolation = serializable for the role",
        "default_transaction_isolation = 'serializable'",
        names="serializable",
    ),
    _set_for_role(
        "role repeatable read",
        "default_transaction_isolation = 'repeatable read' for the role",
        "default_transaction_isolation = 'repeatable read'",
        names="repeatable read",
    ),
    _set_for_role(
        "role time-outs",
        "statement_timeout, lock_timeout and idle_in_transaction_session_timeout of a few milliseconds for the role",
        "statement_timeout = '30ms'",
        "lock_timeout = '5ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        names="timeout",
        codes=_ENDED,
    ),
    _set_for_role(
        "role idle time-out",
        "idle_session_timeout = 50ms for the role",
        "idle_session_timeout = '50ms'",
        names="timeout",
        codes=_ENDED,
    ),
    _set_for_role(
        "role formats",
        "DateStyle, IntervalStyle, TimeZone, bytea_output and extra_float_digits set otherwise for the role",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = 'escape'",
        "extra_float_digits = -3",
    ),
    _set_for_role(
        "role search_path", "search_path = nowhere for the role", "search_path = 'nowhere'", "synchronous_commit = off"
    ),
    *(
        _set_for_role(
            f"client encoding {name}", f"client_encoding = {name} for the role", f"client_encoding = '{name}'"
        )
        for name in ("LATIN1", "SQL_ASCII", "SJIS")
    ),
    *(
        Fault(
            name=f"client's variable PGCLIENTENCODING {name}",
            family="surroundings",
            text=f"PGCLIENTENCODING={name} in the command's environment",
            drivers=("run", "run --call", "explore", "explore --call", "demo", "pytest"),
            elsewhere="as these",
            limit=_environment(PGCLIENTENCODING=name, PGTZ="Asia/Kathmandu", PGDATESTYLE="SQL, DMY"),
            promise=_NOTHING,
        )
        for name in ("LATIN1", "SQL_ASCII")
    ),
    *(
        Fault(
            name=f"database {name}",
            family="surroundings",
            text=f"the encoding of the database is {name}",
            drivers=WITH_SERVER,
            elsewhere=_NO_SERVER,
            arrange=_encoding(name),
            promise=_NOTHING,
        )
        for name in ("LATIN1", "SQL_ASCII")
    ),
    *(
        Fault(
            name=f"PostgreSQL {version}",
            family="surroundings",
            text=f"the server is PostgreSQL {version}",
            drivers=WITH_SERVER,
            elsewhere=_NO_SERVER,
            layout=Layout(version=version),
            promise=_NOTHING,
        )
        for version in (14, 15, 16, 17, 18)
    ),
)

_LIMITED = Promise(
    does="works, or ends with one line that says what is missing",
    verdict="as without the limit, UNKNOWN, or none",
    remains="nothing; no file is half written",
    codes=(*_ENDED, 1, 2),
)
_MACHINE = (
    Fault(
        name="disk full",
        family="machine",
        text="4 kB to 1 MB of space in the working folder or the folder for temporary files",
        drivers=EVERY,
        limit=_small_disk,
        promise=_LIMITED,
    ),
    Fault(
        name="few descriptors",
        family="machine",
        text="ulimit -n of 8 to 60",
        drivers=EVERY,
        limit=_limits("nofile", 8, 60),
        promise=_LIMITED,
    ),
    Fault(
        name="little memory",
        family="machine",
        text="ulimit -v of 150 to 900 MB",
        drivers=EVERY,
        limit=_limits("as", 150 << 20, 900 << 20),
        promise=_LIMITED,
    ),
)

_SIGNALS = (
    *(
        Fault(
            name=name,
            family="signals",
            text=text,
            drivers=EVERY,
            strike=strike,
            promise=_INTERRUPTS,
        )
        for name, text, strike in (
            ("SIGINT", "SIGINT to the command", _signal(signal.SIGINT)),
            ("SIGTERM", "SIGTERM to the command", _signal(signal.SIGTERM)),
            ("SIGHUP", "SIGHUP to the command", _signal(signal.SIGHUP)),
            (
                "SIGINT to the group",
                "SIGINT to the command and its processes: Ctrl-C",
                _signal(signal.SIGINT, group=True),
            ),
            ("SIGTERM to the group", "SIGTERM to all processes", _signal(signal.SIGTERM, group=True)),
            (
                "SIGINT twice",
                "SIGINT to the group, twice within 0.3 seconds",
                _signal(signal.SIGINT, group=True, times=2),
            ),
        )
    ),
    Fault(
        name="SIGHUP ignored",
        family="signals",
        text="SIGHUP to the group of a command that was started by nohup",
        drivers=EVERY,
        strike=_signal(signal.SIGHUP, group=True),
        limit=_nohup,
        promise=_NOTHING,
    ),
    Fault(
        name="embedded, SIGINT to the group",
        family="signals",
        text="Ctrl-C while the embedded server starts, runs or stops",
        drivers=("run", "run --call", "explore", "demo", "pytest"),
        elsewhere="as these",
        layout=_EMBEDDED,
        strike=_signal(signal.SIGINT, group=True),
        promise=_INTERRUPTS,
    ),
)

FAULTS: Mapping[str, Fault] = {
    fault.name: fault for fault in (*_PROCESSES, *_SERVERS, *_NETWORK, *_POOLERS, *_SURROUNDINGS, *_MACHINE, *_SIGNALS)
}
