"""The proxy that passes everything on: the rate of pgbench through it compared with that without it, and its CPU time.

pgbench's SELECT-only script, with prepared statements and with simple queries. The embedded server listens on a Unix
socket only, so that a client without the proxy saves more than the proxy itself: TCP on the loopback interface.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import click
from psycopg.conninfo import conninfo_to_dict

from benchmarks.measurement import (
    Document,
    Table,
    aim,
    alternating,
    document,
    figure,
    finish,
    numbers,
    options,
    progress,
    ratios,
    sample,
    spread,
)
from benchmarks.programs import Server, fresh_schema, pgbench, pgbench_version, run_program, running_server
from racebench.core.target import Target
from racebench.postgres.proxy.proxy import Proxy
from racebench.workloads import catalog

PROTOCOLS = ("prepared", "simple")
_CONTESTANTS = ("direct", "proxy")
_LEAST_RATIO, _MOST_CPU_US = 0.4, 60.0
_SCRIPT = Path(__file__).with_name("scripts") / "select-only.sql"


class _Relay:
    """A proxy in a process of its own."""

    def __init__(self, pipe: multiprocessing.connection.Connection, port: int) -> None:
        self._pipe, self.port = pipe, port

    def cpu_s(self) -> float:
        """The CPU time of its process so far."""
        self._pipe.send("cpu")
        seconds: int = self._pipe.recv()
        return seconds


def _carry(parameters: Mapping[str, str], pipe: multiprocessing.connection.Connection) -> None:
    """Pass everything on until the pipe is closed; answer with the CPU time."""
    with Proxy(Target(kind="dsn", parameters=parameters, label="the server")) as proxy:
        pipe.send(proxy.listen())
        with contextlib.suppress(EOFError):
            while True:
                news = proxy.poll(0.05)
                for link in news:
                    link.relay()
                if not news and pipe.poll():
                    pipe.recv()
                    pipe.send(time.process_time())


@contextlib.contextmanager
def _relay(server: Server) -> Iterator[_Relay]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    parameters = {name: str(value) for name, value in conninfo_to_dict(server.dsn).items()}
    process = context.Process(target=_carry, args=(parameters, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Relay(ours, ours.recv())
    finally:
        ours.close()
        process.join()


def _measure(
    server: Server, relay: _Relay, schema: str, *, contestant: str, protocol: str, clients: int, seconds: int
) -> dict[str, float | None]:
    """One round of a contestant: transactions a second, and the proxy's CPU time for each, in microseconds."""
    through = replace(server, dsn=f"{server.dsn} host=127.0.0.1 port={relay.port} sslmode=disable")
    before_s = relay.cpu_s()
    figures = pgbench(
        server if contestant == "direct" else through,
        schema,
        _SCRIPT,
        clients=clients,
        threads=1,
        length=("--time", str(seconds)),
        extra=(f"--protocol={protocol}",),
    )
    cpu_us = (relay.cpu_s() - before_s) / figures.transactions * 1e6
    return {"per_s": figures.throughput_per_s, "cpu_us": None if contestant == "direct" else cpu_us}


@click.command(help=__doc__)
@options("proxy", rounds=7)
@click.option("--clients", default="1,8", show_default=True, callback=numbers, help="Numbers of clients.")
@click.option("--seconds", type=click.IntRange(1), default=3, show_default=True, help="Length of a round.")
def main(rounds: int, output: Path, clients: Sequence[int], seconds: int) -> None:
    cells = list(product(PROTOCOLS, clients))
    rates: dict[tuple[str, int, str], list[dict[str, float | None]]] = {}
    scenario = catalog.find_scenario("version-counter")
    with (
        running_server() as server,
        _relay(server) as relay,
        fresh_schema(server, scenario, scenario.strategies["naive"]) as schema,
        progress(rounds * len(cells) * 2) as tell,
    ):
        run_program(
            [server.programs / "pgbench", "--initialize", "--quiet"],
            env={**server.environment, "PGOPTIONS": f"-c search_path={schema}"},
        )
        for number in range(rounds):
            for (protocol, count), contestant in product(cells, alternating(_CONTESTANTS, number)):
                rates.setdefault((protocol, count, contestant), []).append(
                    _measure(
                        *(server, relay, schema),
                        contestant=contestant,
                        protocol=protocol,
                        clients=count,
                        seconds=seconds,
                    )
                )
                tell(f"{protocol} {count} {contestant}")
        versions = {"pgbench": pgbench_version(server)}
    measured = document(
        "proxy",
        rounds=rounds,
        parameters={"clients": list(clients), "seconds": seconds},
        server=server.description,
        cells=[_cell(protocol, count, rates) for protocol, count in cells],
        versions=versions,
    )
    finish(measured, tables(measured), output)


def _cell(
    protocol: str, clients: int, rates: Mapping[tuple[str, int, str], list[dict[str, float | None]]]
) -> dict[str, Any]:
    direct, proxy = (
        {name: sample([one[name] for one in rates[protocol, clients, contestant]]) for name in ("per_s", "cpu_us")}
        for contestant in _CONTESTANTS
    )
    return {
        "protocol": protocol,
        "clients": clients,
        "direct": direct,
        "proxy": proxy,
        "ratio": ratios(proxy["per_s"], direct["per_s"]),
    }


def tables(measured: Document) -> list[Table]:
    """Rates with and without the proxy, and its CPU time for a round trip."""
    cells = measured["cells"]
    rows = tuple(
        (
            cell["protocol"],
            str(cell["clients"]),
            spread(cell["direct"]["per_s"]),
            spread(cell["proxy"]["per_s"]),
            spread(cell["ratio"]),
            figure(cell["proxy"]["cpu_us"]["median"]),
        )
        for cell in cells
    )
    columns = ("protocol", "clients", "direct, 1/s", "through the proxy, 1/s", "ratio", "proxy's CPU, µs a round trip")
    notes = (
        aim("smallest ratio", min(cell["ratio"]["median"] for cell in cells), least=_LEAST_RATIO),
        aim("greatest CPU time", max(cell["proxy"]["cpu_us"]["median"] for cell in cells), most=_MOST_CPU_US),
    )
    return [Table(title="pgbench SELECT-only, through the proxy", columns=columns, rows=rows, names=2, notes=notes)]


if __name__ == "__main__":
    main()
