"""Connects to a Dask scheduler, lists its machines and compares their versions.

A machine is one Dask worker. What machines do is the executor's (cluster.py); `local_scheduler` starts some here.
Nothing of Dask is imported before `connected`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.signals import shielded
from racebench.executors import local_scheduler

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
_PROTOCOLS = ("tcp://", "tls://")
_LOOPBACK = ("127.", "localhost", "[::1]")
#: What has to be the same here and on each machine.
_COMPARED = ("racebench", "psycopg")
_CONNECT_SECONDS = 5.0
_LOCAL_SECONDS = 60.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """Which Dask scheduler: its address, tcp://HOST:PORT or tls://HOST:PORT, or `local` to start one here."""

    address: str

    @classmethod
    def parse(cls, text: str) -> Scheduler:
        """Raises UsageProblem unless it is `local` or an address with a port."""
        host = next((text.removeprefix(each) for each in _PROTOCOLS if text.startswith(each)), "")
        if text != LOCAL and not host.rpartition(":")[2].isdecimal():
            raise UsageProblem(
                f"--scheduler is tcp://HOST:PORT, tls://HOST:PORT or local, not '{text}'; "
                "`dask scheduler` prints its address"
            )
        return cls(address=text)

    @property
    def is_local(self) -> bool:
        """Whether it is started here, with the machines."""
        return self.address == LOCAL

    @property
    def is_open(self) -> bool:
        """Whether what is sent to it crosses a network without encryption."""
        return self.address.startswith("tcp://") and not self.address[6:].startswith(_LOOPBACK)


def check_installed() -> None:
    """Raise UsageProblem if Dask is not installed, without importing it."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        raise UsageProblem("--scheduler needs Dask, which is not installed; pip install 'racebench[cluster]'")


@contextlib.contextmanager
def connected(scheduler: Scheduler, *, machines: int = 1) -> Iterator[Client]:
    """A client of the scheduler, whose machines have this racebench; `machines`: how many `local` starts.

    Raises RacebenchError in one line: it cannot be reached, has no machine, or one has other versions.
    """
    check_installed()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        address: Any = scheduler.address
        if scheduler.is_local:
            address = stack.enter_context(local_scheduler.started(machines))
        client = stack.enter_context(_client(address, scheduler.address))
        if scheduler.is_local:
            client.wait_for_workers(machines, timeout=_LOCAL_SECONDS)
        check_versions(client, scheduler.address)
        yield client


def machines_of(client: Client) -> tuple[str, ...]:
    """The addresses of the machines that the scheduler has now, sorted."""
    return tuple(sorted(client.scheduler_info()["workers"]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own log lines out of the terminal: what concerns the user is said in racebench's messages."""
    import distributed  # noqa: F401 - its import sets up the loggers

    known = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [logging.getLogger(name) for name in (*known, "asyncio", "tornado.application")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _client(address: Any, name: str) -> Iterator[Client]:
    from distributed import Client

    try:
        if isinstance(address, str):
            asyncio.run(_try_to_connect(address))
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name=f"racebench-{os.getpid()}")
    except (OSError, TimeoutError) as problem:
        reason = one_line(_innermost(problem))
        raise RacebenchError(
            f"cannot reach the Dask scheduler {name} within {_CONNECT_SECONDS:.0f} s: {reason}; start one with "
            "`dask scheduler`, or use --scheduler local"
        ) from None
    except (TypeError, ValueError) as problem:  # tls:// without the certificates of Dask's configuration
        raise UsageProblem(
            f"cannot use the Dask scheduler {name}: {one_line(str(problem))}; see Dask's settings distributed.comm.tls"
        ) from None
    try:
        yield client
    finally:
        with shielded():
            client.close(timeout=_CLOSE_SECONDS)


def _innermost(problem: BaseException) -> str:
    """What the first of a chain of errors says: Dask's own say which object failed."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return str(problem) or type(problem).__name__


async def _try_to_connect(address: str) -> None:
    """Connect and say nothing: a Client that cannot connect prints a traceback when it is deleted."""
    from distributed import Security
    from distributed.comm import connect

    comm = await connect(address, timeout=_CONNECT_SECONDS, **Security().get_connection_args("client"))
    await comm.close()


def check_versions(client: Client, name: str) -> None:
    """Compare Python and the packages of each machine with those here; raises RacebenchError if one differs."""
    known = client.get_versions(packages=list(_COMPARED))
    if not known["workers"]:
        raise RacebenchError(f"the Dask scheduler {name} has no workers; start some with `dask worker {name}`")
    here = _versions(known["client"])
    others = {address: _versions(machine) for address, machine in known["workers"].items()}
    for what, version in here.items():
        different = {address: machine[what] for address, machine in sorted(others.items()) if machine[what] != version}
        if different:
            address, other = next(iter(different.items()))
            more = f", and so {quantity(len(different) - 1, 'more', 'more')}" if len(different) > 1 else ""
            raise RacebenchError(
                f"machine {address} has {f'{what} {other}' if other else f'no {what}'}{more}; here it is {version}: "
                "install the same versions on all machines"
            )


def _versions(machine: Mapping[str, Any]) -> dict[str, str | None]:
    packages = machine["packages"]
    python = ".".join(str(packages["python"]).split(".")[:2])  # what is sent is the same for all patches of 3.N
    return {"Python": python, **{name: packages.get(name) for name in _COMPARED}}
