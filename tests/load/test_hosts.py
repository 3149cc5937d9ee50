"""Load on machines with addresses of their own: network namespaces, joined by a bridge, with TLS between them.

The command, the scheduler and the database server are on one host, a worker of Dask on each of two others. One of
these is behind a slow link.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import trustme
from psycopg import sql

from conftest import server_programs
from waiting import finish, wait_for

if os.environ.get("TEST_CLUSTER") != "required":
    pytest.importorskip("distributed")

pytestmark = pytest.mark.server

ADDRESSES = ("10.203.0.1", "10.203.0.2", "10.203.0.3")
CENTER, NEAR, FAR = range(3)
SCHEDULER = f"tls://{ADDRESSES[CENTER]}:8786"
#: The command. After SIGUSR1 a machine that is not heard for 8 s is lost; at the start it may be busy for longer.
RACEBENCH = """
import signal
from racebench.__main__ import main
from racebench.executors import cluster
signal.signal(signal.SIGUSR1, lambda *_: setattr(cluster, "LOST_SECONDS", 8.0))
main()
"""


@dataclass(frozen=True)
class Hosts:
    """The namespaces, what is started in them, and the folder with the server's data and the certificates."""

    names: Sequence[str]
    folder: Path
    password: str = field(default_factory=lambda: f"secret-{secrets.token_hex(8)}")

    def start(self, host: int, *command: str, **options: object) -> subprocess.Popen[str]:
        """Start a program on a host."""
        words = ["ip", "netns", "exec", self.names[host], *command]
        return subprocess.Popen(words, cwd=self.folder, text=True, env=self._environment(), **options)  # type: ignore[call-overload, no-any-return]

    def _environment(self) -> dict[str, str]:
        files = {"CA_FILE": "ca.pem"}
        for role in ("SCHEDULER", "WORKER", "CLIENT"):
            files |= {f"{role}__CERT": "certificate.pem", f"{role}__KEY": "key.pem"}
        tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(self.folder / file) for name, file in files.items()}
        return {**os.environ, **tls, "PGPASSWORD": self.password, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A session on the server, by its socket, which all hosts of one machine share."""
        return psycopg.connect(
            host=str(self.folder), user="owner", dbname="postgres", password=self.password, autocommit=True
        )

    def rows(self) -> int:
        """How many rows a run has committed."""
        with contextlib.suppress(psycopg.errors.UndefinedTable), self.connect() as connection:
            for (schema,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'"):
                query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(str(schema), "events"))
                ((count,),) = connection.execute(query).fetchall()
                return int(str(count))
        return 0

    def run(self, *options: str) -> subprocess.Popen[str]:
        """Start `racebench run` beside the scheduler."""
        target = ("--dsn", f"postgresql://owner@{ADDRESSES[CENTER]}/postgres", "--scheduler", SCHEDULER)
        command = (
            sys.executable,
            "-c",
            RACEBENCH,
            "run",
            *options,
            *target,
            "--no-save",
            "--json",
            "-",
        )
        return self.start(CENTER, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def joined(names: Sequence[str]) -> Iterator[None]:
    """Namespaces with the ADDRESSES, at one bridge in the first of them; what is in them ends first."""
    made: list[str] = []
    try:
        for name in names:
            try:
                ip("netns", "add", name)
            except (OSError, subprocess.CalledProcessError) as problem:
                pytest.skip(f"this machine makes no network namespaces: {problem}")
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        center = names[CENTER]
        ip("-n", center, "link", "add", "bridge", "type", "bridge")
        ip("-n", center, "address", "add", f"{ADDRESSES[CENTER]}/24", "dev", "bridge")
        ip("-n", center, "link", "set", "bridge", "up")
        for number, name in enumerate(names[1:], 1):
            ip("-n", center, "link", "add", f"to{number}", "type", "veth", "peer", "name", "outside", "netns", name)
            ip("-n", center, "link", "set", f"to{number}", "master", "bridge", "up")
            ip("-n", name, "address", "add", f"{ADDRESSES[number]}/24", "dev", "outside")
            ip("-n", name, "link", "set", "outside", "up")
        yield
    finally:
        for name in made:
            ip("netns", "delete", name)


def slow_down(name: str) -> None:
    """Have a host's link take its time: a delay, or where the kernel has none, few bytes a second."""
    for how in (["netem", "delay", "20ms"], ["tbf", "rate", "4mbit", "burst", "16kb", "latency", "1s"]):
        words = ["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "outside", "root", *how]
        if subprocess.run(words, capture_output=True).returncode == 0:
            return
    pytest.skip("the kernel slows no link down")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and iproute2")
    names = [f"racebench-{os.getpid()}-{number}" for number in range(len(ADDRESSES))]
    folder = Path(tempfile.mkdtemp(prefix="racebench-hosts-"))
    running: list[subprocess.Popen[str]] = []
    try:
        with joined(names):
            made = Hosts(names, folder)
            slow_down(names[FAR])
            try:
                _certify(folder)
                running.append(_server(made))
                dask = (sys.executable, "-m", "dask")
                center = ("scheduler", "--host", SCHEDULER.rpartition(":")[0], "--port", "8786", "--no-dashboard")
                running.append(_said(made, CENTER, *dask, *center, until="Scheduler at"))
                for host in (NEAR, FAR):
                    worker = ("worker", SCHEDULER, "--nthreads", "1", "--no-nanny", "--no-dashboard")
                    running.append(_said(made, host, *dask, *worker, until="Registered to"))
                yield made
            finally:
                for process in reversed(running):  # a worker of Dask whose scheduler is gone may not end by itself
                    process.send_signal(signal.SIGINT if process is running[0] else signal.SIGKILL)
                    finish(process)
    finally:
        shutil.rmtree(folder)


def _said(hosts: Hosts, host: int, *command: str, until: str) -> subprocess.Popen[str]:
    """Start a program on a host, and wait for what it says when it is there."""
    path = hosts.folder / f"{hosts.names[host]}.log"
    with path.open("w") as log:
        process = hosts.start(host, *command, stdout=log, stderr=log)
    wait_for(lambda: until in path.read_text() or process.poll() is not None, lambda: path.read_text())
    assert process.poll() is None, path.read_text()
    return process


def _certify(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert(*ADDRESSES)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")


def _server(hosts: Hosts) -> subprocess.Popen[str]:
    """A server that all hosts reach; it runs as another user."""
    programs, data, secret = server_programs(), hosts.folder / "data", hosts.folder / "password"
    hosts.folder.chmod(0o755)
    secret.write_text(hosts.password)
    data.mkdir()
    shutil.chown(data, "nobody")
    shutil.chown(hosts.folder, "nobody")
    user = ("setpriv", "--reuid", "nobody", "--clear-groups", "--")
    make = (str(programs / "initdb"), "-D", str(data), "-U", "owner", f"--pwfile={secret}", "--auth=scram-sha-256")
    subprocess.run(
        [*user, *make, "--no-sync", "--no-locale", "--encoding=UTF8"], check=True, capture_output=True, cwd=hosts.folder
    )
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.203.0.0/24 scram-sha-256\n")
    server = (str(programs / "postgres"), "-D", str(data), "-h", ADDRESSES[CENTER], "-k", str(hosts.folder))
    with (hosts.folder / "log").open("wb") as log:
        process = hosts.start(CENTER, *user, *server, "-c", "fsync=off", stdout=log, stderr=log)

    def answers() -> bool:
        with contextlib.suppress(psycopg.OperationalError), hosts.connect():
            return True
        return process.poll() is not None

    wait_for(answers, lambda: f"no server: {(hosts.folder / 'log').read_text()}")
    return process


def test_hosts_find_what_one_machine_finds(hosts: Hosts) -> None:
    out, err = finish(hosts.run("-s", "naive", "-s", "advisory", "-w", "4", "-n", "300"))
    assert out, err
    assert hosts.password not in out + err
    assert "not encrypted" not in err
    naive, advisory = json.loads(out)["runs"]
    assert (naive["verdict"], advisory["verdict"]) == ("INVALID", "VALID"), err
    assert naive["counts"]["duplicates"] > 0
    assert advisory["counts"]["inversions"] == 0
    for run in (naive, advisory):
        assert run["counts"]["committed"] == 300
        assert sorted(machine["machine"].split(":")[1][2:] for machine in run["machines"]) == list(ADDRESSES[1:])


def test_a_host_that_is_cut_off_is_lost_and_the_run_ends_with_a_report(hosts: Hosts) -> None:
    """No packet comes back from it: neither Dask nor the server sees that it is gone."""
    process = hosts.run("-s", "sequence", "-w", "4", "-d", "5", "--consumer", "none")
    wait_for(lambda: hosts.rows() or process.poll() is not None, "the run did not begin")
    ip("-n", hosts.names[CENTER], "link", "set", f"to{NEAR}", "down")
    process.send_signal(signal.SIGUSR1)
    out, err = finish(process)
    assert out, err
    (run,) = json.loads(out)["runs"]
    (lost,) = (machine["machine"] for machine in run["machines"] if ADDRESSES[NEAR] in machine["machine"])
    assert any(
        note.startswith(f"machine {lost} was lost; what its workers had begun is UNKNOWN") for note in run["notes"]
    )
    assert run["verdict"] != "INVALID"
    assert run["counts"]["unknown"] >= 2, "an operation of each of its sessions"
    assert run["counts"]["committed"] > 0
    assert run["counts"]["lost"] == run["counts"]["unexpected"] == run["counts"]["duplicates"] == 0
