"""What a live view costs: `racebench run` on a terminal with --live, with its bar alone, and without progress.

The rounds alternate. The terminal is a pseudo-terminal of 120 × 40 that is read at once, so what a terminal's own
program needs to draw is not in the figures. The command's process follows and draws; its workers are other processes.
What the command's process uses of the CPU while they work, they do not have on the same machine. It varies less than
the rate, so it shows differences below a hundredth, which the rate does not.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.measurement import (
    ROOT,
    Document,
    Table,
    aim,
    alternating,
    document,
    finish,
    options,
    progress,
    ratios,
    sample,
    spread,
)
from racebench.postgres import environment
from racebench.postgres.embedded import EmbeddedServer

_WORKERS = 8
_BAR, _LIVE, _NOTHING = "a bar", "--live", "--progress never"
_CONTESTANTS: Mapping[str, tuple[str, ...]] = {_BAR: (), _LIVE: ("--live",), _NOTHING: ("--progress", "never")}
_STRATEGIES = ("naive", "sequence")
#: The largest part of the machine's CPU time that --live may take more.
_MOST_PERCENT = 1.0
#: The command; its process writes to a file how many CPU seconds it used while its workers worked.
_PROGRAM = """
import importlib.machinery, importlib.util, sys, time
path = sys.argv.pop(1)
sys.argv[0] = "racebench"

class Finder:
    def find_spec(self, name, folders=None, target=None):
        if name != "racebench.load.crew":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = Measured(spec.loader.name, spec.loader.path)
        return spec

class Measured(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        go = module.Crew.go
        def measured(crew, progress):
            before = time.process_time()
            start = go(crew, progress)
            with open(path, "w") as file:
                file.write(str(time.process_time() - before))
            return start
        module.Crew.go = measured

sys.meta_path.insert(0, Finder())
from racebench.__main__ import main
main()
"""


def _run(strategy: str, contestant: str, duration: float) -> dict[str, float]:
    """Run the command once: commits a second and the CPU ms of its process."""
    command = ["run", "-s", strategy, "-w", str(_WORKERS), "-d", f"{duration:g}", "--seed", "1", "--no-save"]
    command += ["--json", "-", *_CONTESTANTS[contestant]]
    own = {name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS", "NO_COLOR")}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    drawn: list[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, drawn))
    with tempfile.TemporaryDirectory(prefix="racebench-live-") as folder:
        used = Path(folder) / "cpu"
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(used), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**own, "TERM": "xterm-256color"},
            cwd=ROOT,
        )
        os.close(theirs)
        reader.start()
        said, _ = process.communicate()
        reader.join()
        os.close(ours)
        if process.returncode != 0:
            raise click.ClickException(f"racebench ended with {process.returncode}: {b''.join(drawn)[-500:]!r}")
        cpu_ms = float(used.read_text()) * 1e3
    (run,) = json.loads(said)["runs"]
    return {
        "throughput_per_s": run["throughput_per_s"],
        "cpu_ms": cpu_ms,
    }


def _read(terminal: int, drawn: list[bytes]) -> None:
    """Read what is written to a pseudo-terminal until its other side is closed."""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: it is closed
            return
        if not part:
            return
        drawn.append(part)


def _figures(rounds: Mapping[str, list[dict[str, float]]], duration: float) -> dict[str, Any]:
    """What each contestant did in all rounds.

    `more_percent`: how much more --live took in the same round, of the machine's CPU time in the measured time.
    """
    machine_ms = 1e3 * duration * (os.cpu_count() or 1)
    found = {}
    for name, runs in rounds.items():
        more = [
            (live["cpu_ms"] - run["cpu_ms"]) / machine_ms * 100 for live, run in zip(rounds[_LIVE], runs, strict=True)
        ]
        found[name] = {
            "throughput_per_s": sample([run["throughput_per_s"] for run in runs]),
            "cpu_ms": sample([run["cpu_ms"] for run in runs]),
            "more_percent": sample(more),
        }
    return found


def tables(measured: Document) -> list[Table]:
    """One table."""
    rows, notes = [], []
    for cell in measured["cells"]:
        contestants, strategy = cell["contestants"], cell["strategy"]
        rate = {
            name: ratios(contestants[_LIVE]["throughput_per_s"], one["throughput_per_s"])
            for name, one in contestants.items()
        }
        for name, one in contestants.items():
            others = name != _LIVE
            rows.append(
                (
                    f"`{strategy}`",
                    name,
                    spread(one["throughput_per_s"]),
                    spread(rate[name]) if others else "",
                    spread(one["cpu_ms"]),
                    spread(one["more_percent"]) if others else "",
                )
            )
        notes.append(
            aim(
                f"`{strategy}`, CPU time of --live beyond a bar's, % of the machine's",
                contestants[_BAR]["more_percent"]["median"],
                most=_MOST_PERCENT,
            )
        )
        notes.append(
            aim(
                f"`{strategy}`, CPU time of --live beyond that without progress, % of the machine's",
                contestants[_NOTHING]["more_percent"]["median"],
                most=_MOST_PERCENT,
            )
        )
    parameters = measured["parameters"]
    return [
        Table(
            title=f"One run of {parameters['duration_s']:g} s on a terminal, {parameters['workers']} workers",
            columns=(
                "strategy",
                "shown",
                "commits a second",
                "--live to it",
                "CPU of the command's process, ms",
                "--live takes more, % of the machine",
            ),
            names=2,
            rows=tuple(rows),
            notes=tuple(notes),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("live", rounds=21)
@click.option(
    "--duration", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Measurement duration, in seconds."
)
def main(*, rounds: int, duration: float, output: Path) -> None:
    """Measure, print, write."""
    cells = []
    with progress(len(_STRATEGIES) * len(_CONTESTANTS) * rounds) as tell:
        for strategy in _STRATEGIES:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in _CONTESTANTS}
            for number in range(rounds):
                for name in alternating(list(_CONTESTANTS), number):
                    tell(f"{strategy}, {name}")
                    found[name].append(_run(strategy, name, duration))
            cells.append({"strategy": strategy, "contestants": _figures(found, duration)})
    with EmbeddedServer(connections=8) as target:
        server = environment.describe(target)
    measured = document(
        "live",
        rounds=rounds,
        parameters={"duration_s": duration, "workers": _WORKERS},
        server=server,
        cells=cells,
    )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
